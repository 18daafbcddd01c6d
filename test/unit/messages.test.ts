import { expect } from 'chai';
import {
  decodeCommandTag,
  decodeReport,
  decodeRowDescription,
  encodeReport,
  frameOf,
  MessageType,
  reportFields,
} from '../../src/messages.ts';
import { bytes, int16, int32, message, report, zeroTerminated } from '../support/messages.ts';

describe('MessageType', () => {
  it('has the letters of the manual', () => {
    const letters = Object.entries(MessageType).map(
      ([name, code]) => `${name} ${String.fromCharCode(code)}`,
    );
    expect(letters).to.deep.equal([
      'authentication R',
      'backendKeyData K',
      'bindComplete 2',
      'closeComplete 3',
      'commandComplete C',
      'copyInResponse G',
      'copyOutResponse H',
      'copyBothResponse W',
      'dataRow D',
      'emptyQueryResponse I',
      'errorResponse E',
      'negotiateProtocolVersion v',
      'noData n',
      'noticeResponse N',
      'notificationResponse A',
      'parameterStatus S',
      'parseComplete 1',
      'portalSuspended s',
      'readyForQuery Z',
      'rowDescription T',
      'query Q',
      'parse P',
      'bind B',
      'describe D',
      'close C',
      'flush H',
      'sync S',
      'functionCall F',
      'functionCallResponse V',
      'execute E',
      'copyDone c',
      'copyFail f',
    ]);
  });
});

describe('decodeReport', () => {
  it('names each field', () => {
    const frame = report(
      'E',
      ...['SFEHLER', 'VERROR', 'C22012', 'Mmessage', 'Ddetail', 'Hhint', 'P1', 'p2', 'qinternal'],
      ...[
        'Wwhere',
        'sschema',
        'ttable',
        'ccolumn',
        'dtype',
        'nconstraint',
        'Ffile',
        'L3',
        'Rroutine',
      ],
    );

    expect(decodeReport(frame)).to.deep.equal({
      severity: 'ERROR',
      code: '22012',
      message: 'message',
      detail: 'detail',
      hint: 'hint',
      position: '1',
      internalPosition: '2',
      internalQuery: 'internal',
      where: 'where',
      schema: 'schema',
      table: 'table',
      column: 'column',
      dataType: 'type',
      constraint: 'constraint',
      file: 'file',
      line: '3',
      routine: 'routine',
    });
  });

  it('takes the severity that is not translated', () => {
    expect(decodeReport(report('N', 'SHINWEIS', 'VNOTICE')).severity).to.equal('NOTICE');
  });

  it('gives an error without SQLSTATE the code XX000', () => {
    expect(decodeReport(report('E', 'Mgone'))).to.deep.equal({
      severity: 'ERROR',
      code: 'XX000',
      message: 'gone',
    });
  });

  it('leaves out empty fields', () => {
    expect(decodeReport(report('E', 'Mgone', 'D', 'H'))).not.to.have.any.keys('detail', 'hint');
  });

  it('ignores fields that it does not know', () => {
    expect(decodeReport(report('E', 'Mgone', 'xnew'))).to.have.all.keys(
      'severity',
      'code',
      'message',
    );
  });

  it('keeps each byte above 127 as one character', () => {
    expect(decodeReport(report('E', 'M\xe9\xff')).message).to.equal('\xe9\xff');
  });
});

describe('reportFields', () => {
  it('gives the fields in their order, empty ones too', () => {
    expect([...reportFields(report('E', 'Mtext', 'C22012', 'D'))]).to.deep.equal([
      ['M', 'text'],
      ['C', '22012'],
      ['D', ''],
    ]);
  });

  it('leaves out a field that is cut off', () => {
    expect([...reportFields(message('E', bytes('C22012\0Mtex')))]).to.deep.equal([['C', '22012']]);
  });

  it('ends at the zero byte behind the last field', () => {
    expect([...reportFields(message('E', bytes('C22012\0\0Mtext\0')))]).to.have.length(1);
  });
});

describe('encodeReport', () => {
  it('writes the fields in their order and a zero byte', () => {
    const fields = [
      ['S', 'ERROR'],
      ['M', '\xe9'],
    ] as const;
    expect(encodeReport(MessageType.errorResponse, fields)).to.deep.equal(
      bytes('E\0\0\0\x0fSERROR\0M\xe9\0\0'),
    );
  });
});

describe('frameOf', () => {
  it('writes a length that counts itself and the body', () => {
    expect(frameOf(MessageType.query, bytes('SELECT 1\0'))).to.deep.equal(
      bytes('Q\0\0\0\x0dSELECT 1\0'),
    );
  });

  it('writes a message without a body', () => {
    expect(frameOf(MessageType.noData, bytes(''))).to.deep.equal(bytes('n\0\0\0\x04'));
  });
});

describe('decodeRowDescription', () => {
  function column(name: string, oid: number, typmod: number): Buffer {
    const [table, attribute, size, format] = [int32(1259), int16(3), int16(-1), int16(0)];
    return Buffer.concat([
      zeroTerminated(name),
      ...[table, attribute, int32(oid), size, int32(typmod), format],
    ]);
  }

  it('gives type and typmod of each column', () => {
    const frame = message('T', int16(2), column('id', 23, -1), column('price', 1700, 655366));
    expect(decodeRowDescription(frame)).to.deep.equal([
      { oid: 23, typmod: -1, isBinary: false },
      { oid: 1700, typmod: 655366, isBinary: false },
    ]);
  });

  it('reads columns without names', () => {
    const frame = message('T', int16(2), column('', 25, -1), column('', 23, 5));
    expect(decodeRowDescription(frame)).to.deep.equal([
      { oid: 25, typmod: -1, isBinary: false },
      { oid: 23, typmod: 5, isBinary: false },
    ]);
  });

  it('reads an OID above 2^31 as a positive number', () => {
    const frame = message('T', int16(1), column('x', 4294967295, -1));
    expect(decodeRowDescription(frame)[0]?.oid).to.equal(4294967295);
  });

  it('gives nothing for a row without columns', () => {
    expect(decodeRowDescription(message('T', int16(0)))).to.deep.equal([]);
  });
});

describe('decodeCommandTag', () => {
  it('gives the tag without its zero byte', () => {
    expect(decodeCommandTag(message('C', bytes('INSERT 0 1\0')))).to.equal('INSERT 0 1');
  });
});
