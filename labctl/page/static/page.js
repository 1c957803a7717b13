// The page of `labctl open`. What comes from the lab is only ever shown as text (textContent).
import { words } from "./parts.js";
import { openPanels } from "./panels.js";
import { openTerminals } from "./terminals.js";
import { showPicture } from "./picture.js";
import { openLesson } from "./lesson.js";
import { openTools } from "./tools.js";

const connection = document.getElementById("connection");

async function send(method, address, data) {
  const answer = await fetch(address, {
    method,
    headers: { "Content-Type": "application/json" },
    body: data === undefined ? undefined : JSON.stringify(data),
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error([told.text || answer.statusText, told.hint].filter(Boolean).join("\n"));
  return told;
}

openPanels();
const terminals = openTerminals(send);
const lesson = openLesson(send, terminals);
const tools = openTools(send);

const handlers = {
  lab: (message) => terminals.setNodes(message.nodes),
  terminals: (message) => terminals.setOpen(message.open),
  instances: (message) => terminals.setInstances(message.names),
  lesson: lesson.setLesson,
  preview: lesson.setPreview,
  snapshots: lesson.setSnapshots,
  walk: (message) => tools.setWalkProgress(message.text),
  pong: () => { clearTimeout(waiting); waiting = 0; },
  picture: (message) => showPicture(message.svg, message.style),
};

const PING_MS = 15000;
const PONG_MS = 4000; // a server that lives answers sooner, also when it is busy
let waits = 250;
let waiting = 0;
let socket;

function follow() {
  clearTimeout(waiting);
  waiting = 0;
  socket = new WebSocket(`${location.origin.replace("http", "ws")}/events`);
  socket.onopen = () => {
    waits = 250;
    connection.textContent = "";
    lesson.reset();
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    (handlers[message.kind] || lesson.addMessage)(message);
  };
  socket.onclose = () => {
    connection.textContent = words.lost;
    setTimeout(follow, waits);
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
    connection.textContent = words.lost;
    follow();
  }, PONG_MS);
}
setInterval(check, PING_MS);
for (const name of ["online", "focus"]) addEventListener(name, check);
document.addEventListener("visibilitychange", () => document.hidden || check());
follow();
