// Small parts that all of the page uses.
export const words = JSON.parse(document.body.dataset.words);

export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on") || name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A lesson's text: paragraphs with `code`, **bold** and "- " items.
export function prose(text) {
  const blocks = [];
  for (const block of text.split(/\n\s*\n/)) {
    const items = [];
    let plain = "";
    for (const line of block.split("\n")) {
      if (/^\s*- /.test(line)) items.push(line.replace(/^\s*- /, ""));
      else if (items.length) items[items.length - 1] += ` ${line.trim()}`;
      else plain += (plain ? " " : "") + line.trim();
    }
    if (plain) blocks.push(element("p", {}, ...inline(plain)));
    if (items.length) blocks.push(element("ul", {}, ...items.map((item) => element("li", {}, ...inline(item)))));
  }
  return blocks;
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).filter(Boolean).map((part) => {
    if (part.length > 2 && part.startsWith("`")) return element("code", {}, part.slice(1, -1));
    if (part.length > 4 && part.startsWith("**")) return element("strong", {}, part.slice(2, -2));
    return part;
  });
}
