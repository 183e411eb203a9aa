import React from 'react';

/**
 * The time, anew every second while `ticks`.
 */
export function useNow(ticks: boolean): Date {
  const [now, setNow] = React.useState(() => new Date());
  React.useEffect(() => {
    if (!ticks) {
      return undefined;
    }
    const timer = setInterval(() => {
      setNow(new Date());
    }, 1000);
    return () => {
      clearInterval(timer);
    };
  }, [ticks]);
  return now;
}
