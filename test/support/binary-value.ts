const INT4 = 23;
const INT8 = 20;
const TEXT = 25;
const VOID = 2278;

/** A value in binary format as PostgreSQL would write it in text format; composite types too. */
export function readBinary(typeOid: number, value: Buffer): string {
  switch (typeOid) {
    case INT4:
      return String(value.readInt32BE(0));
    case INT8:
      return String(value.readBigInt64BE(0));
    case TEXT:
    case VOID:
      return value.toString('utf8');
    default:
      return readComposite(value);
  }
}

/** A value of a parameter in binary format. */
export function writeBinary(type: 'text' | 'int4' | 'int8', value: string): Buffer {
  if (type === 'text') return Buffer.from(value);
  const bytes = Buffer.alloc(type === 'int4' ? 4 : 8);
  if (type === 'int4') bytes.writeInt32BE(Number(value));
  else bytes.writeBigInt64BE(BigInt(value));
  return bytes;
}

/** The OID of a type of parameters. */
export function oidOf(type: 'text' | 'int4' | 'int8'): number {
  return { text: TEXT, int4: INT4, int8: INT8 }[type];
}

/** Number of fields, then for each its type, length and value. */
function readComposite(value: Buffer): string {
  const fields: string[] = [];
  let at = 4;
  while (fields.length < value.readInt32BE(0)) {
    const length = value.readInt32BE(at + 4);
    fields.push(readBinary(value.readUInt32BE(at), value.subarray(at + 8, at + 8 + length)));
    at += 8 + length;
  }
  return `(${fields.join(',')})`;
}
