import { expect } from 'chai';
import { parseConnectionString } from '../../proxy/connection-string.ts';

// What --upstream says about the way to the server.
describe('parseConnectionString', () => {
  const modes: readonly (readonly [url: string, sslmode: string])[] = [
    ['postgres://db.example', 'verify-full'],
    ['postgres://10.0.0.5', 'verify-full'],
    ['postgres://db.example?sslrootcert=system', 'verify-full'],
    ['postgres://localhost', 'disable'],
    ['postgres://127.0.0.2', 'disable'],
    ['postgres://[::1]', 'disable'],
    ['postgres:///?host=/run/postgresql', 'disable'],
    ['postgres://localhost?sslmode=verify-full', 'verify-full'],
    ['postgres://localhost?sslrootcert=ca.pem', 'verify-full'],
    ['postgres://localhost?sslcert=c.pem&sslkey=k.pem', 'verify-full'],
    ['postgres://db.example?sslmode=verify-ca&sslrootcert=ca.pem', 'verify-ca'],
    ['postgres://db.example?sslmode=require', 'require'],
    ['postgres://db.example?sslmode=require&sslrootcert=ca.pem', 'verify-ca'],
    ['postgres://db.example?sslmode=disable', 'disable'],
  ];
  for (const [url, sslmode] of modes) {
    it(`reads sslmode ${sslmode} in ${url}`, () => {
      expect(parseConnectionString(url).sslmode).to.equal(sslmode);
    });
  }

  const sockets: readonly (readonly [url: string, parts: object])[] = [
    ['postgres:///sales?host=/run', { host: '/run', port: 5432, database: 'sales' }],
    ['postgres://ann@/sales?host=/run&port=5433', { host: '/run', port: 5433, user: 'ann' }],
    ['postgres://%2Fvar%2Frun/sales', { host: '/var/run', database: 'sales' }],
  ];
  for (const [url, parts] of sockets) {
    it(`reads the Unix socket of ${url}`, () => {
      expect(parseConnectionString(url)).to.deep.include(parts);
    });
  }

  it('reads certificate, key, root and time limit', () => {
    const url = 'postgres://db?sslcert=c.pem&sslkey=k.pem&sslrootcert=r.pem&connect_timeout=7';
    expect(parseConnectionString(url)).to.deep.include({
      sslcert: 'c.pem',
      sslkey: 'k.pem',
      sslrootcert: 'r.pem',
      connectTimeoutMs: 7_000,
    });
  });

  it('takes parameters that change nothing here', () => {
    const url = 'postgres://db?application_name=x&channel_binding=prefer&gssencmode=disable';
    expect(parseConnectionString(url).host).to.equal('db');
  });

  const refused: readonly (readonly [url: string, message: RegExp])[] = [
    ['postgres://ann:hush@db', /^Leave the password out/],
    ['postgres://db?password=hush', /^Leave the password out/],
    ['postgres://db?sslmode=prefer', /^sslmode=prefer would go on in the clear/],
    ['postgres://db?sslmode=allow', /^sslmode=allow would go on in the clear/],
    ['postgres://db?sslmode=maybe', /^Expected disable, require, verify-ca or verify-full/],
    ['postgres://db?sslmod=require', /^The parameter "sslmod" is none of/],
    ['postgres://db?channel_binding=require', /^channel_binding=require is not to be had/],
    ['postgres://db?sslcert=c.pem', /^sslcert and sslkey belong together/],
    ['postgres://db?port=0', /^0 is no port/],
    ['postgres://db?connect_timeout=soon', /^Expected a number of seconds/],
    ['postgres://db?connect_timeout=2147484', /^Expected a number of seconds/],
    ['postgres://db?sslmode=verify-ca', /^sslmode=verify-ca needs sslrootcert/],
    ['postgres://db?sslmode=verify-ca&sslrootcert=system', /use sslmode=verify-full/],
    ['postgres://db?sslmode=require&sslrootcert=system', /use sslmode=verify-full/],
  ];
  for (const [url, message] of refused) {
    it(`refuses ${url}`, () => {
      expect(() => parseConnectionString(url))
        .to.throw(message)
        .and.not.match(/hush/);
    });
  }
});
