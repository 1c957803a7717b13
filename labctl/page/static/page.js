// The page of `labctl open`. What comes from the lab is only ever shown as text (textContent).
import { words } from "./parts.js";
import { openTerminals } from "./terminals.js";
import { showPicture } from "./picture.js";
import { openLesson } from "./lesson.js";

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

const terminals = openTerminals(send);
const lesson = openLesson(send, terminals);

const handlers = {
  lab: (message) => terminals.setNodes(message.nodes),
  terminals: (message) => terminals.setOpen(message.open),
  lesson: lesson.setLesson,
  preview: lesson.setPreview,
  picture: (message) => showPicture(message.svg, message.style),
};

let waits = 250;
function follow() {
  const socket = new WebSocket(`ws://${location.host}/events`);
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
follow();
