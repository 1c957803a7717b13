// The page of `labctl open`. What comes from the lab is only ever shown as text (textContent).
import { words } from "./parts.js";
import { follow } from "./stream.js";
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
  picture: (message) => showPicture(message.svg, message.style),
};

follow({
  told: (message) => (handlers[message.kind] || lesson.addMessage)(message),
  opened: () => {
    connection.textContent = "";
    lesson.reset();
  },
  lost: () => { connection.textContent = words.lost; },
});
