import { expect } from 'chai';
import type { AdvisoryLock } from '../../src/control-link.ts';
import type { Packet } from '../../src/conversation.ts';
import { PacketDisplay } from '../../src/packet-display.ts';

const wide = (text: string): Packet => ({ text, isWide: true, number: 1 });
const narrow = (text: string): Packet => ({ text, isWide: false, number: 1 });

describe('PacketDisplay', () => {
  it('shows nothing at first', () => {
    const display = new PacketDisplay(20);
    expect(display.show()).to.deep.equal({
      query: undefined,
      applicationName: undefined,
      wakes: [],
    });
    expect(display.isFull).to.equal(false);
  });

  it('shows packets for wide readers as one comment', () => {
    const display = new PacketDisplay(20);
    display.add(wide('aaa'));
    display.add(wide('bbb'));
    expect(display.show().query).to.equal('--aaa bbb');
  });

  it('fills a query text to its last byte, of which the server needs one for the end', () => {
    const display = new PacketDisplay(10);
    display.add(wide('aaa'));
    display.add(wide('bbb'));
    expect(display.show().query).to.equal('--aaa bbb');
    expect(display.isFull).to.equal(false);
  });

  it('lets those wait for whom there is no room', () => {
    const display = new PacketDisplay(9);
    display.add(wide('aaa'));
    display.add(wide('bbb'));
    expect(display.show().query).to.equal('--aaa');
    expect(display.isFull).to.equal(true);
  });

  it('shows the next when one was read', () => {
    const display = new PacketDisplay(9);
    const first = wide('aaa');
    display.add(first);
    display.add(wide('bbb'));
    display.remove(first);
    expect(display.show().query).to.equal('--bbb');
    expect(display.isFull).to.equal(false);
  });

  it('gives each its turn', () => {
    const display = new PacketDisplay(9);
    for (const text of ['aaa', 'bbb', 'ccc']) display.add(wide(text));
    const turns = [1, 2, 3, 4].map(() => {
      const { query } = display.show();
      display.rotate();
      return query;
    });
    expect(turns).to.deep.equal(['--aaa', '--bbb', '--ccc', '--aaa']);
  });

  it('shows one packet for narrow readers, beside those for wide ones', () => {
    const display = new PacketDisplay(100);
    display.add(narrow('nnn'));
    display.add(narrow('mmm'));
    display.add(wide('www'));
    expect(display.show()).to.deep.equal({
      query: '--www',
      applicationName: 'nnn',
      wakes: [],
    });
    expect(display.isFull).to.equal(true);
    display.rotate();
    expect(display.show()).to.deep.equal({
      query: '--www',
      applicationName: 'mmm',
      wakes: [],
    });
  });

  it('wakes who sleeps when his packet is shown, and once', () => {
    const display = new PacketDisplay(9);
    const lock = () => ({ letGo: () => '1' }) as AdvisoryLock;
    const [first, second] = [lock(), lock()];
    display.add(wide('aaa'), first);
    display.add(wide('bbb'), second);
    const turns = [1, 2, 3].map(() => {
      const { wakes } = display.show();
      display.rotate();
      return wakes;
    });
    expect(turns).to.deep.equal([[first], [second], []]);
  });
});
