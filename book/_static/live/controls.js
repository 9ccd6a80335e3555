// What a page is made of: elements, dials, canvases, and how a pointer drags over them.
"use strict";
var segdetLive = segdetLive || {};

{
  function element(parent, name, attributes = {}, text = "") {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return parent.appendChild(made);
  }

  function select(form, title, options, chosen, changed) {
    const input = element(element(form, "label", {}, title), "select");
    for (const [value, text] of options) element(input, "option", { value }, text).selected = value === chosen;
    input.addEventListener("change", () => changed(input.value));
    return input;
  }

  function range(form, title, min, max, step, value, changed) {
    const input = element(element(form, "label", {}, title), "input", { type: "range", min, max, step, value });
    input.addEventListener("input", () => changed(Number(input.value)));
    return input;
  }

  function button(parent, title, pressed) {
    const button = element(parent, "button", { type: "button" }, title);
    button.addEventListener("click", pressed);
    return button;
  }

  function figure(stage, width, height, title, text = "") {
    const figure = element(stage, "figure");
    const attributes = { width: Math.round(width), height: Math.round(height), tabindex: 0, role: "application", "aria-label": title };
    return [element(figure, "canvas", attributes), element(figure, "figcaption", {}, text)];
  }

  // Call moved(start, point, far, done) while a pointer drags, places as shares of the canvas; far: it left its place.
  function dragging(canvas, moved) {
    let start = null, far = false;
    const place = (event) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      return [(event.clientX - left) / width, (event.clientY - top) / height];
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      ((start = place(event)), (far = false), canvas.focus({ preventScroll: true }));
      moved(start, start, far, false);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (start) ((far = true), moved(start, place(event), far, false));
    });
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, (event) => {
        if (start) (moved(start, place(event), far, true), (start = null));
      });
  }

  Object.assign(segdetLive, { element, select, range, button, figure, dragging });
}
