import { expect } from 'chai';
import type pg from 'pg';
import { AuthQuery } from '../../proxy/auth-query.ts';
import { passthrough } from '../../proxy/authentication.ts';
import { createSecureContext } from 'node:tls';
import { eventually } from '../support/eventually.ts';
import { HostileServer, stepByStep, type HostileScript } from '../support/hostile-server.ts';
import {
  authentication,
  bytes,
  int32,
  message,
  readyForQuery,
  report,
  zeroTerminated,
} from '../support/messages.ts';
import { TestProxy } from '../support/proxy.ts';
import { rejectionOf } from '../support/rejection.ts';
import { keepingLogger } from '../support/scratch-file.ts';

// The server behind the proxy, or whoever has got between them, means no good: it wants the password,
// a client that believes it, or a proxy that does not serve anybody any more.

const PASSWORD = 'the password of ann';
const SSL_REQUEST_BYTES = 8;

const sasl = authentication(10, 'SCRAM-SHA-256\0\0');
const nonceOf = (received: Buffer) => /r=([^,\0]+)$/.exec(received.toString('latin1'))?.[1] ?? '';
const challenge = (nonce: string, salt = 'c2FsdA==', count = '4096') =>
  authentication(11, `r=${nonce},s=${salt},i=${count}`);

describe('a hostile server', () => {
  let server: HostileServer;
  let proxy: TestProxy;

  before(async () => {
    server = await HostileServer.start();
    const place = { host: '127.0.0.1', port: server.port, name: 'sales' };
    proxy = await TestProxy.inFrontOf(place, {}, { authenticate: passthrough(false) });
  });
  after(async () => {
    await proxy.stop();
    await server.stop();
  });

  async function connectTo(script: HostileScript, to = proxy): Promise<pg.DatabaseError> {
    server.script = script;
    server.received = Buffer.alloc(0);
    const connecting = to.connect({ user: 'ann', password: PASSWORD });
    return (await rejectionOf(connecting)) as pg.DatabaseError;
  }

  const scram: readonly (readonly [what: string, script: HostileScript, complaint: RegExp])[] = [
    [
      'has another nonce',
      stepByStep(
        () => sasl,
        () => challenge('another'),
      ),
      /a nonce that is not ours/,
    ],
    [
      'adds nothing to the nonce',
      stepByStep(
        () => sasl,
        (got) => challenge(nonceOf(got)),
      ),
      /added nothing to the SCRAM nonce/,
    ],
    [
      'asks for two thousand million iterations',
      stepByStep(
        () => sasl,
        (got) => challenge(`${nonceOf(got)}x`, 'c2FsdA==', '2000000000'),
      ),
      /asks for 2000000000 SCRAM iterations/,
    ],
    [
      'sends no salt',
      stepByStep(
        () => sasl,
        (got) => challenge(`${nonceOf(got)}x`, '='),
      ),
      /malformed SCRAM challenge/,
    ],
    [
      'proves nothing in the end',
      stepByStep(
        () => sasl,
        (got) => challenge(`${nonceOf(got)}x`),
        () => authentication(12, `v=${Buffer.alloc(32).toString('base64')}`),
      ),
      /does not know the password/,
    ],
    [
      'accepts before it has proved anything',
      stepByStep(
        () => sasl,
        (got) => challenge(`${nonceOf(got)}x`),
        () => Buffer.concat([authentication(0), readyForQuery()]),
      ),
      /ended the SCRAM exchange too early/,
    ],
    [
      'asks for the password in the middle',
      stepByStep(
        () => sasl,
        () => authentication(3),
      ),
      /asks for a password in the middle of SCRAM/,
    ],
    [
      'begins twice',
      stepByStep(
        () => sasl,
        () => sasl,
      ),
      /began a SCRAM exchange twice/,
    ],
    [
      'goes on before it was answered',
      stepByStep(
        () => sasl,
        (got) => Buffer.concat([challenge(`${nonceOf(got)}x`), authentication(0)]),
      ),
      /out of turn/,
    ],
    ['begins with a challenge', stepByStep(() => challenge('x')), /challenge out of turn/],
    ['offers another mechanism', stepByStep(() => authentication(10, 'PLAIN\0\0')), /PLAIN/],
  ];
  for (const [what, script, complaint] of scram) {
    it(`gets neither client nor password when in SCRAM it ${what}`, async () => {
      expect((await connectTo(script)).message).to.match(complaint);
      expect(server.received.toString('latin1')).not.to.include(PASSWORD);
    });
  }

  it('cannot accept a session without asking for the password', async () => {
    const script = stepByStep(() => Buffer.concat([authentication(0), readyForQuery()]));
    const error = await connectTo(script);
    expect(error).to.include({ code: '28000' });
    expect(error.message).to.include('did not ask for the password');
  });

  it('cannot begin a session without accepting it', async () => {
    const script = stepByStep(() => readyForQuery());
    expect((await connectTo(script)).message).to.include('before AuthenticationOk');
  });

  for (const [kind, method] of [
    [2, 'Kerberos V5'],
    [6, 'SCM credentials'],
    [7, 'GSSAPI'],
    [9, 'SSPI'],
    [4711, 'authentication method 4711'],
  ] as const) {
    it(`is told that the proxy cannot do ${method}`, async () => {
      const error = await connectTo(stepByStep(() => authentication(kind)));
      expect(error).to.include({
        code: '28000',
        message: `the server asks for ${method}, which the proxy cannot do`,
      });
    });
  }

  const malformed: readonly (readonly [what: string, bytes: Buffer])[] = [
    ['an authentication request that is too short', message('R', Buffer.of(0))],
    ['an md5 request without salt', authentication(5)],
    ['a length below four', Buffer.concat([bytes('R'), int32(3)])],
    ['a negative length', Buffer.concat([bytes('R'), int32(-1), Buffer.alloc(10)])],
  ];
  for (const [what, sent] of malformed) {
    it(`ends its own session with ${what}`, async () => {
      expect(await connectTo(stepByStep(() => sent))).to.include({ code: '08P01' });
    });
  }

  it('cannot fill the memory before it accepts', async () => {
    const script: HostileScript = (socket) => {
      const more = () => {
        while (socket.write(Buffer.concat([bytes('N'), int32(65_539), Buffer.alloc(65_535)])));
      };
      socket.on('drain', more);
      more();
    };
    expect((await connectTo(script)).message).to.include('says too much before AuthenticationOk');
  });

  it('cannot announce a message that never comes, and hold the client for ever', async () => {
    const impatient = await TestProxy.inFrontOf(
      { host: '127.0.0.1', port: server.port, name: 'sales' },
      {},
      { authenticate: passthrough(false), clientLoginTimeoutMs: 100 },
    );
    const script = stepByStep(() => Buffer.concat([bytes('R'), int32(2 ** 31 - 1)]));
    try {
      expect((await connectTo(script, impatient)).message).to.include('client_login_timeout');
    } finally {
      await impatient.stop();
    }
  });

  for (const [what, fields] of [
    ['no SQLSTATE', ['SFATAL', 'MI say nothing']],
    ['no fields', []],
    ['an unknown field', ['SFATAL', 'VFATAL', 'C28000', 'Mno', 'zwhat']],
  ] as const) {
    it(`is repeated when it refuses a session with ${what}`, async () => {
      const script: HostileScript = (socket) => void socket.end(report('E', ...fields));
      const error = await connectTo(script);
      if (fields.length > 0)
        expect(error.message).to.equal(fields.at(-1) === 'zwhat' ? 'no' : 'I say nothing');
      else expect(error).to.be.instanceOf(Error);
    });
  }

  it('is told apart from the proxy when it hangs up', async () => {
    expect(await connectTo((socket) => void socket.destroy())).to.include({
      code: '08006',
      message: 'the server closed the connection during the login',
    });
  });

  it('is told apart from the proxy when it hangs up in the middle of what it says', async () => {
    const notice = report('N', 'SNOTICE', 'C00000', 'Mwait');
    const refusal = report('E', 'SFATAL', 'VFATAL', 'C28000', 'Mno');
    const beginnings = [...refusal.keys()].map((length) => refusal.subarray(0, length));
    for (const said of [...beginnings, notice]) {
      expect(await connectTo((socket) => void socket.end(said)), said.toString()).to.include({
        code: '08006',
        message: 'the server closed the connection during the login',
      });
    }
  });

  it('tells the client nothing but why not, and what it speaks, before it accepts', async () => {
    for (const type of ['S', 'K', 'D', 'G', 'A']) {
      const said = message(type, int32(1), int32(2));
      expect(await connectTo((socket) => void socket.end(said)), type).to.include({
        code: '08P01',
      });
    }
  });

  it('cannot hold up those who are looked up by falling silent once it has let the proxy in', async () => {
    server.script = (socket) =>
      void socket.write(Buffer.concat([authentication(0), readyForQuery()]));
    const { logger } = keepingLogger();
    const target = {
      server: { host: '127.0.0.1', port: server.port },
      role: 'monitor',
      database: 'postgres',
    };
    const query = new AuthQuery(
      { sql: 'SELECT $1', target, credential: () => Promise.resolve(undefined), timeoutMs: 100 },
      logger,
    );
    expect(await rejectionOf(query.secretOf('ann'))).to.include({ code: '08006' });
    await query.close();
    await eventually(async () => {
      expect(server.connectionCount).to.equal(0);
    });
  });

  it('leaves no connection behind, whatever it does', () => {
    expect(server.connectionCount).to.equal(0);
  });

  describe('before TLS', () => {
    let secured: TestProxy;

    before(async () => {
      const endpoint = {
        host: '127.0.0.1',
        port: server.port,
        tls: { sslmode: 'require', secureContext: createSecureContext() } as const,
      };
      secured = await TestProxy.inFrontOf(
        { ...endpoint, name: 'sales' },
        {},
        {
          authenticate: passthrough(false),
          server: endpoint,
        },
      );
    });
    after(() => secured.stop());

    const answers: readonly (readonly [what: string, answer: Buffer, complaint: string])[] = [
      [
        'words of its own',
        report('E', 'SFATAL', 'C28P01', 'Mgive me your password'),
        'the server answered the SSL request with an error',
      ],
      ['a refusal', bytes('N'), 'the server does not support SSL, but SSL was required'],
      [
        'what belongs behind the handshake',
        Buffer.concat([bytes('S'), authentication(0), readyForQuery()]),
        'received unencrypted data after SSL response',
      ],
      ['another protocol', bytes('H'), 'the server sent an invalid response to the SSL request'],
    ];
    for (const [what, answer, complaint] of answers) {
      it(`is not believed when it answers with ${what}`, async () => {
        const error = await connectTo((socket) => void socket.write(answer), secured);
        expect(error).to.include({ code: '08001', message: complaint });
        expect(server.received).to.have.length(SSL_REQUEST_BYTES);
      });
    }

    it('hears nothing when it hangs up', async () => {
      const error = await connectTo((socket) => void socket.end(), secured);
      expect(error.message).to.include('could not connect to the server');
      expect(server.received).to.have.length(SSL_REQUEST_BYTES);
    });

    it('hears nothing when its handshake is none', async () => {
      const error = await connectTo(
        stepByStep(
          () => bytes('S'),
          () => zeroTerminated('no TLS record'),
        ),
        secured,
      );
      expect(error.message).to.include('could not connect to the server');
      expect(server.received.toString('latin1')).not.to.include('ann');
    });
  });
});
