// The slice of segdet.figures.painter: a picture with at most one box, for mouse, finger, pen and keys.
const GRIP = 12; // how near to an edge a pointer takes hold of it, in pixels of the screen
const SHORTEST = 1; // side of a box, in pixels of the scan
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SENT = ["Enter", "PageUp", "PageDown"]; // keys that are answered in the kernel
const cut = (value, least, most) => Math.min(Math.max(value, least), most);

// A box (x0, y0, x1, y1) moved, but not out of a slice of this size.
function moved([x0, y0, x1, y1], [x, y], [columns, rows]) {
  const [dx, dy] = [cut(x, -x0, columns - x1), cut(y, -y0, rows - y1)];
  return [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
}

function spanned([ax, ay], [bx, by]) {
  return [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
}

function render({ model, el }) {
  const add = (parent, name, attributes) => Object.assign(parent.appendChild(document.createElement(name)), attributes);
  const frame = add(el, "div", { className: "segdet-painter", tabIndex: 0 });
  frame.setAttribute("role", "application");
  frame.setAttribute("aria-label", model.get("help"));
  frame.dataset.lmSuppressShortcuts = "true"; // JupyterLab has keys of its own
  frame.style.maxWidth = `${model.get("width")}px`;
  const picture = add(frame, "img", { alt: "", draggable: false }), outline = add(frame, "div", {});
  const size = model.get("size"); // columns and rows
  let slice = 0, box = [], before = [], start = null, change = null;

  const draw = () => {
    frame.dataset.slice = slice;
    outline.className = model.get("between") ? "between" : "";
    outline.hidden = !box.length;
    ["left", "top"].forEach((name, i) => (outline.style[name] = `${(100 * box[i]) / size[i]}%`));
    ["width", "height"].forEach((name, i) => (outline.style[name] = `${(100 * (box[i + 2] - box[i])) / size[i]}%`));
  };
  const show = () => (([slice, ...box] = model.get("entry")), (start = null), draw());
  const set = (changed) => {
    ((box = changed), draw());
    model.set("entry", [slice, ...box]); // the kernel may have leafed on meanwhile
    model.save_changes();
  };
  const place = ({ clientX, clientY }) => {
    const { left, top, width, height } = frame.getBoundingClientRect();
    return [cut((clientX - left) / width, 0, 1) * size[0], cut((clientY - top) / height, 0, 1) * size[1]];
  };

  // What a pointer does to the box from here on: it moves one or two edges, or the box, or makes a new one.
  const grip = (point) => {
    const reach = GRIP * (size[0] / frame.clientWidth), tall = GRIP * (size[1] / frame.clientHeight);
    const [x0, y0, x1, y1] = box, [x, y] = point;
    const outside = !box.length || x < x0 - reach || x > x1 + reach || y < y0 - tall || y > y1 + tall;
    if (outside) return { cursor: "crosshair", change: (to) => spanned(point, to) };
    const side = x - x0 < x1 - x ? 0 : 2, end = y - y0 < y1 - y ? 1 : 3;
    const across = Math.abs(x - box[side]) < reach, along = Math.abs(y - box[end]) < tall;
    if (!across && !along) return { cursor: "move", change: (to) => moved(before, [to[0] - x, to[1] - y], size) };
    const cursor = !along ? "ew-resize" : !across ? "ns-resize" : (side === 0) === (end === 1) ? "nwse-resize" : "nesw-resize";
    return { cursor, change: (to) => {
      const edges = before.map((edge, i) => (across && i === side ? to[0] : along && i === end ? to[1] : edge));
      return spanned(edges.slice(0, 2), edges.slice(2));
    } };
  };

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    frame.setPointerCapture(event.pointerId);
    frame.focus({ preventScroll: true });
    ((before = box), (start = place(event)), ({ change } = grip(start)));
  });
  frame.addEventListener("pointermove", (event) => {
    if (!start) return void (frame.style.cursor = grip(place(event)).cursor);
    ((box = change(place(event))), draw());
  });
  frame.addEventListener("pointerup", () => {
    const large = box.length && box[2] - box[0] >= SHORTEST && box[3] - box[1] >= SHORTEST;
    if (start && box !== before) set(large ? box : before);
    start = null;
  });
  frame.addEventListener("pointercancel", () => ((start = null), (box = before), draw()));
  frame.addEventListener("keydown", (event) => {
    const by = ARROWS[event.key];
    if (SENT.includes(event.key)) model.send(event.key);
    else if (["Delete", "Backspace"].includes(event.key)) set([]);
    else if (!by) return;
    else if (box.length && event.shiftKey)
      set([box[0], box[1], cut(box[2] + by[0], box[0] + SHORTEST, size[0]), cut(box[3] + by[1], box[1] + SHORTEST, size[1])]);
    else if (box.length) set(moved(box, by, size));
    event.preventDefault();
    event.stopPropagation();
  });

  const load = () => {
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(new Blob([model.get("picture")], { type: "image/png" }));
  };
  model.on("change:picture", load);
  model.on("change:entry change:between", show);
  (load(), show());
  return () => (model.off("change:picture", load), model.off("change:entry change:between", show));
}

export default { render };
