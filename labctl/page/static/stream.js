// The stream of a page's events: made again whenever it breaks, and asked whether it lives.
const PING_MS = 15000;

// `told` gets each message, `opened` each new connection, `lost` each end of one. `patience`:
// milliseconds in which a server that lives answers, also when it is busy.
export function follow({ told, lost, opened = () => {}, patience = 4000 }) {
  let waits = 250;
  let waiting = 0;
  let socket;

  function connect() {
    clearTimeout(waiting);
    waiting = 0;
    socket = new WebSocket(`${location.origin.replace("http", "ws")}/events`);
    socket.onopen = () => {
      waits = 250;
      opened();
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.kind !== "pong") told(message);
      else {
        clearTimeout(waiting);
        waiting = 0;
      }
    };
    socket.onclose = () => {
      lost();
      setTimeout(connect, waits);
      waits = Math.min(waits * 2, 4000);
    };
  }

  // After a laptop slept the connection may be dead, and no browser notices: ask the server.
  function check() {
    if (waiting || socket.readyState !== WebSocket.OPEN) return;
    socket.send("ping");
    waiting = setTimeout(() => {
      socket.onclose = socket.onmessage = null;
      socket.close();
      lost();
      connect();
    }, patience);
  }
  setInterval(check, PING_MS);
  for (const name of ["online", "focus"]) addEventListener(name, check);
  document.addEventListener("visibilitychange", () => document.hidden || check());
  connect();
}
