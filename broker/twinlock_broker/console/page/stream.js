// The events from the console. The browser connects again by itself where the connection ends, but not where the
// console answers with an error, such as when too many people look: then this does it.

const SILENCE = 45_000; // ms without an event after which the connection counts as lost; there is one every 10 s
const AGAIN = 5_000; // ms until the next attempt
const GRACE = 6_000; // ms until it is said: a connection ends every ten minutes, and the browser makes another one

export function follow(names, received, connected) {
  let source;
  let silence;
  let doubt = null;
  const heard = () => {
    clearTimeout(silence);
    clearTimeout(doubt);
    doubt = null;
    silence = setTimeout(restart, SILENCE);
  };
  const lost = () => {
    doubt ??= setTimeout(() => connected(false), GRACE);
  };
  const start = () => {
    source = new EventSource("api/events");
    heard();
    for (const name of names) {
      source.addEventListener(name, (event) => {
        heard();
        connected(true);
        received(name, JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => {
      lost();
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(silence);
        setTimeout(start, AGAIN);
      }
    });
  };
  const restart = () => {
    source.close();
    connected(false);
    start();
  };
  start();
}
