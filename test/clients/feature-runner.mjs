/**
 * Runs one feature of a client: `node program.mjs URL FEATURE`. What the feature gives is printed as
 * JSON.
 */
export async function run(features) {
  const [url, name] = process.argv.slice(2);
  const feature = features[name];
  if (feature === undefined) throw new Error(`there is no feature "${name}"`);
  console.log(JSON.stringify(await feature(url)));
}

/** The SQLSTATE of what must fail. */
export async function codeOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code;
  }
  throw new Error('nothing failed');
}
