import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { type ISignal, Signal } from '@lumino/signaling';
import type { IBatchSettings } from './tokens';

const MIN_POLL_S = 2;
const MAX_POLL_S = 300;

/**
 * The user's settings with their defaults; without a setting registry, the defaults alone.
 */
export class BatchSettings implements IBatchSettings {
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get notifyOnSuccess(): boolean {
    return this._flag('notifyOnSuccess', true);
  }

  get notifyOnFailure(): boolean {
    return this._flag('notifyOnFailure', true);
  }

  get notifyOnInterruption(): boolean {
    return this._flag('notifyOnInterruption', true);
  }

  get systemNotifications(): boolean {
    return this._flag('systemNotifications', false);
  }

  get wrapLog(): boolean {
    return this._flag('wrapLog', true);
  }

  get pollIntervalMs(): number {
    const seconds = this._number('pollInterval', 5);
    return Math.min(MAX_POLL_S, Math.max(MIN_POLL_S, seconds)) * 1000;
  }

  get defaultProfile(): string | null {
    const name = this._value('defaultProfile');
    return typeof name === 'string' && name !== '' ? name : null;
  }

  get defaultMaxDurationS(): number | null {
    const minutes = this._number('defaultTimeLimit', 0);
    return minutes > 0 ? Math.round(minutes * 60) : null;
  }

  /**
   * Follow the registry from now on.
   */
  connect(settings: ISettingRegistry.ISettings): void {
    this._settings = settings;
    settings.changed.connect(this._onChanged, this);
    this._changed.emit();
  }

  private _onChanged(): void {
    this._changed.emit();
  }

  private _value(name: string): unknown {
    return this._settings?.composite[name];
  }

  private _flag(name: string, fallback: boolean): boolean {
    const value = this._value(name);
    return typeof value === 'boolean' ? value : fallback;
  }

  private _number(name: string, fallback: number): number {
    const value = this._value(name);
    return typeof value === 'number' ? value : fallback;
  }

  private readonly _changed = new Signal<this, void>(this);
  private _settings: ISettingRegistry.ISettings | null = null;
}
