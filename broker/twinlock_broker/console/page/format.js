// Numbers and times as people read them. What isn't known is "–".

const UNKNOWN = "–";

export function number(value, digits = 0) {
  return value == null ? UNKNOWN : value.toLocaleString("en", { maximumFractionDigits: digits });
}

export function size(bytes) {
  if (bytes == null) return UNKNOWN;
  let value = bytes;
  let step = 0;
  while (value >= 1000 && step < 5) {
    value /= 1024;
    step += 1;
  }
  return `${value.toFixed(step > 0 && value < 10 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][step]}`;
}

export function duration(seconds) {
  if (seconds == null) return UNKNOWN;
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// The times of day of times in seconds since 1970, which are `step` seconds apart.
export function clocks(times, step) {
  const parts = { hour: "2-digit", minute: "2-digit", ...(step < 60 && { second: "2-digit" }) };
  return times.map((seconds) => new Date(seconds * 1000).toLocaleTimeString("sv", parts));
}

// Date and time of a time in seconds since 1970.
export function moment(seconds) {
  return seconds == null ? UNKNOWN : new Date(seconds * 1000).toLocaleString("sv");
}
