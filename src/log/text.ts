/**
 * A log as it is shown: plain lines in blocks, the oldest dropped beyond a limit.
 */

const BLOCK_CHARS = 32_000;
const TAIL_MAX_CHARS = 64_000;

// Colours and cursor movements of terminals, and titles (OSC).
const ESCAPES =
  // eslint-disable-next-line no-control-regex
  /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;

// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g;

/**
 * A run of whole lines; `text` of a block that is not the last never changes.
 */
export interface ILogBlock {
  readonly key: number;
  readonly text: string;
}

/**
 * Text without terminal sequences; a carriage return starts the line over, as progress bars mean it.
 */
export function plainText(raw: string): string {
  const unescaped = raw.replace(ESCAPES, '').replace(/\r+\n/g, '\n');
  return unescaped
    .split('\n')
    .map(line => {
      const kept = line.endsWith('\r') ? line.slice(0, -1) : line;
      return kept.slice(kept.lastIndexOf('\r') + 1).replace(CONTROLS, '');
    })
    .join('\n');
}

/**
 * Collects a log piece by piece, in bounded memory.
 */
export class LogText {
  /**
   * @param maxChars - How much is kept.
   */
  constructor(private readonly maxChars = 4_000_000) {}

  /** Whole blocks, and the unfinished line last. */
  get blocks(): readonly ILogBlock[] {
    return this._tail === ''
      ? this._blocks
      : [...this._blocks, { key: -1, text: plainText(this._tail) }];
  }

  /** Characters that were dropped from the beginning. */
  get droppedChars(): number {
    return this._dropped;
  }

  append(raw: string): void {
    const joined = this._tail + raw;
    const end = joined.lastIndexOf('\n') + 1;
    this._tail = joined.slice(end);
    if (end > 0) {
      this._addLines(plainText(joined.slice(0, end)));
    }
    if (this._tail.length > TAIL_MAX_CHARS) {
      this._addLines(plainText(this._tail));
      this._tail = '';
    }
  }

  clear(): void {
    this._blocks = [];
    this._tail = '';
    this._chars = 0;
    this._dropped = 0;
  }

  private _addLines(text: string): void {
    const blocks = [...this._blocks];
    const last = blocks.at(-1);
    if (last !== undefined && last.text.length + text.length <= BLOCK_CHARS) {
      blocks[blocks.length - 1] = { key: last.key, text: last.text + text };
    } else {
      blocks.push({ key: this._nextKey++, text });
    }
    this._chars += text.length;
    while (this._chars > this.maxChars && blocks.length > 1) {
      const oldest = blocks.shift();
      this._chars -= oldest?.text.length ?? 0;
      this._dropped += oldest?.text.length ?? 0;
    }
    this._blocks = blocks;
  }

  private _blocks: readonly ILogBlock[] = [];
  private _chars = 0;
  private _dropped = 0;
  private _nextKey = 0;
  private _tail = '';
}
