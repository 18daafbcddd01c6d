const PATIENCE_MS = 10_000;
const INTERVAL_MS = 20;

/** Repeats an assertion until it holds, and fails with its last error when it does not in ten seconds. */
export async function eventually(assertion: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      await assertion();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  }
}
