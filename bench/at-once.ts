/** Does something a number of times, so many of them at the same time, and gives what came of it. */
export async function repeatAtOnce<T>(
  times: number,
  atOnce: number,
  action: () => Promise<T>,
): Promise<T[]> {
  const made: T[] = [];
  let left = times;
  const lane = async () => {
    while (left-- > 0) made.push(await action());
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return made;
}
