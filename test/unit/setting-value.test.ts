import { expect } from 'chai';
import { BackgroundError } from '../../src/errors.ts';
import {
  defaultQueueSize,
  maxWorkers,
  readSetting,
  workerTimeout,
  type SettingDefinition,
} from '../../src/setting-value.ts';

describe('readSetting', () => {
  for (const text of [undefined, null, '', 5]) {
    it(`gives the default for ${text === '' ? 'an empty text' : String(text)}`, () => {
      expect(readSetting(workerTimeout, text)).to.equal(0);
      expect(readSetting(maxWorkers, text)).to.equal(16);
      expect(readSetting(defaultQueueSize, text)).to.equal(65536);
    });
  }

  const readable: readonly (readonly [SettingDefinition, string, number])[] = [
    [maxWorkers, '1', 1],
    [maxWorkers, '1000', 1000],
    [maxWorkers, '  7  ', 7],
    [maxWorkers, '+7', 7],
    [maxWorkers, '7.4', 7],
    [defaultQueueSize, '64', 64],
    [defaultQueueSize, '268435456', 268435456],
    [defaultQueueSize, '100B', 100],
    [defaultQueueSize, '1kB', 1024],
    [defaultQueueSize, '1.5kB', 1536],
    [defaultQueueSize, '2 MB', 2097152],
    [defaultQueueSize, '.25GB', 268435456],
    [workerTimeout, '0', 0],
    [workerTimeout, '250', 250],
    [workerTimeout, '250ms', 250],
    [workerTimeout, '1500us', 2],
    [workerTimeout, '2s', 2000],
    [workerTimeout, '3min', 180000],
    [workerTimeout, '1h', 3600000],
    [workerTimeout, '24d', 2073600000],
    [workerTimeout, '2147483647', 2147483647],
  ];
  for (const [definition, text, value] of readable) {
    it(`reads '${text}' of ${definition.name} as ${value}`, () => {
      expect(readSetting(definition, text)).to.equal(value);
    });
  }

  const invalid: readonly (readonly [SettingDefinition, string])[] = [
    [maxWorkers, 'many'],
    [maxWorkers, '1kB'],
    [maxWorkers, '1 2'],
    [maxWorkers, ' '],
    [maxWorkers, '1;'],
    [maxWorkers, '--1'],
    [defaultQueueSize, '1s'],
    [workerTimeout, '1MB'],
    [workerTimeout, 's'],
    [workerTimeout, '1 constructor'],
  ];
  for (const [definition, text] of invalid) {
    it(`refuses '${text}' for ${definition.name}`, () => {
      expect(() => readSetting(definition, text))
        .to.throw(BackgroundError, `invalid value for parameter "${definition.name}": "${text}"`)
        .with.property('code', '22023');
    });
  }

  const outside: readonly (readonly [SettingDefinition, string, string])[] = [
    [
      maxWorkers,
      '0',
      '0 is outside the valid range for parameter "pg_background.max_workers" (1 .. 1000)',
    ],
    [
      maxWorkers,
      '1001',
      '1001 is outside the valid range for parameter "pg_background.max_workers" (1 .. 1000)',
    ],
    [
      defaultQueueSize,
      '63',
      '63 B is outside the valid range for parameter "pg_background.default_queue_size" (64 B .. 268435456 B)',
    ],
    [
      defaultQueueSize,
      '257MB',
      '269484032 B is outside the valid range for parameter "pg_background.default_queue_size" (64 B .. 268435456 B)',
    ],
    [
      workerTimeout,
      '-1',
      '-1 ms is outside the valid range for parameter "pg_background.worker_timeout" (0 ms .. 2147483647 ms)',
    ],
    [
      workerTimeout,
      '25d',
      '2160000000 ms is outside the valid range for parameter "pg_background.worker_timeout" (0 ms .. 2147483647 ms)',
    ],
  ];
  for (const [definition, text, complaint] of outside) {
    it(`refuses '${text}' for ${definition.name} and names the range`, () => {
      expect(() => readSetting(definition, text))
        .to.throw(BackgroundError, complaint)
        .with.property('code', '22023');
    });
  }
});
