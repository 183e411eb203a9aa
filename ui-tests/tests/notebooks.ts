/**
 * Notebooks made for the tests: small, and quick to tell apart from one another.
 */

interface ICell {
  readonly source: string;
  readonly tags?: readonly string[];
}

/**
 * The text of a Python notebook with these code cells, never executed.
 */
export function notebook(cells: readonly (string | ICell)[]): string {
  return JSON.stringify({
    nbformat: 4,
    nbformat_minor: 5,
    metadata: {
      kernelspec: {
        name: 'python3',
        display_name: 'Python 3 (ipykernel)',
        language: 'python'
      },
      language_info: { name: 'python' }
    },
    cells: cells.map((cell, index) => {
      const { source, tags = [] } =
        typeof cell === 'string' ? { source: cell } : cell;
      return {
        id: `cell-${index}`,
        cell_type: 'code',
        execution_count: null,
        metadata: tags.length > 0 ? { tags } : {},
        outputs: [],
        source
      };
    })
  });
}

/** Seven code cells, some seconds, one typed parameter of each kind, one file written. */
export const SWEEP = notebook([
  {
    source: [
      'epochs: int = 3  # how often',
      'rate: float = 0.5  # learning rate',
      'label: str = "plain"',
      'quick: bool = False',
      'layers: list = [64, 32]  # neurons'
    ].join('\n'),
    tags: ['parameters']
  },
  'import time, pathlib',
  'time.sleep(1.5)',
  'time.sleep(1.5)',
  'time.sleep(1.5)',
  'pathlib.Path("sweep-result.txt").write_text(f"{label} {epochs * 14}")',
  'print("answer", label, epochs * 14, layers)'
]);

/** The third cell raises. */
export const FAILING = notebook([
  'values = [1, 2, 3]',
  'print("before the failure")',
  'raise ValueError("digits are missing")',
  'print("never")'
]);

/** Runs for ten minutes unless it is stopped. */
export const LONG = notebook([
  'import time',
  'print("it runs")',
  'for i in range(600):\n    time.sleep(1)',
  'print("done")'
]);

/** One quick cell. */
export const QUICK = notebook(['print(6 * 7)']);
