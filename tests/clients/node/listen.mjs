// Listens with the package `eventsource` and prints what it hears, a line of JSON each:
//   node listen.mjs URL COUNT TYPE...
// It ends after so many events of these types. Every opening of the stream is a line, too.
import { EventSource } from "eventsource";

const [url, count, ...types] = process.argv.slice(2);
const print = (line) => console.log(JSON.stringify(line));
let heard = 0;

const source = new EventSource(url);
source.addEventListener("open", () => print({ open: true }));
source.addEventListener("error", ({ code, message }) => {
  print({ error: message ?? null, code: code ?? null, state: source.readyState });
  if (source.readyState === source.CLOSED) process.exit(1);
});
for (const type of types) {
  source.addEventListener(type, ({ type, data, lastEventId }) => {
    if (heard === Number(count)) return;
    heard++;
    print({ type, data, id: lastEventId });
    if (heard === Number(count)) source.close();
  });
}
