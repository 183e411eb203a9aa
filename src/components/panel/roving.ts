import type React from 'react';

/**
 * Arrow keys move between everything inside that has `data-roving`; Home and End jump. ArrowRight enters a row's
 * buttons, ArrowLeft leaves them.
 */
export function onRovingKey(event: React.KeyboardEvent<HTMLElement>): void {
  const target = event.target as HTMLElement;
  const stop = target.closest<HTMLElement>('[data-roving]');
  if (stop === null) {
    return;
  }
  const next = destination(event.key, event.currentTarget, stop, target);
  if (next !== null) {
    event.preventDefault();
    next.focus();
  }
}

function destination(
  key: string,
  root: HTMLElement,
  stop: HTMLElement,
  target: HTMLElement
): HTMLElement | null {
  const stops = [...root.querySelectorAll<HTMLElement>('[data-roving]')];
  const inside = [stop, ...stop.querySelectorAll<HTMLElement>('button')];
  const at = stops.indexOf(stop);
  switch (key) {
    case 'ArrowDown':
      return stops[at + 1] ?? null;
    case 'ArrowUp':
      return stops[at - 1] ?? null;
    case 'Home':
      return stops[0] ?? null;
    case 'End':
      return stops.at(-1) ?? null;
    case 'ArrowRight':
      return inside[inside.indexOf(target) + 1] ?? null;
    case 'ArrowLeft':
      return inside[inside.indexOf(target) - 1] ?? null;
    default:
      return null;
  }
}
