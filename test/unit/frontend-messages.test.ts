import { expect } from 'chai';
import { startupMessage } from '../../src/frontend-messages.ts';

describe('startupMessage', () => {
  it('has the parameters as they are, and no others', () => {
    const text = 'user\0Ä\0client_encoding\0LATIN1\0\0';
    const bytes = Buffer.from(text, 'utf8');
    const message = startupMessage({ user: 'Ä', client_encoding: 'LATIN1' });
    expect(message.readInt32BE(0)).to.equal(message.length);
    expect(message.readInt32BE(4)).to.equal(196_608);
    expect(message.subarray(8)).to.deep.equal(bytes);
  });
});
