// Draws the plotly figures whose JSON book/_tools/segdet_book.py put into the page, in the colours of its theme. Plotly.js
// weighs more than all the rest of a page, so it is loaded when the first figure comes near the window. Title, legend
// and sliders are HTML and not plotly's drawing: a title that breaks into lines, dials that answer to the keyboard.
const HERE = document.currentScript.src;
let loading = null;

function loadPlotly() {
  loading ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    Object.assign(script, { src: new URL("plotly.min.js", HERE).href, onload: done, onerror: failed });
    document.head.append(script);
  });
  return loading;
}

function ofTheTheme() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--pst-color-text-base").trim(), clear = "rgba(0,0,0,0)";
  const colours = { "font.color": ink, paper_bgcolor: clear, plot_bgcolor: clear };
  Object.assign(colours, { "modebar.bgcolor": clear, "modebar.color": "#7b7b7b", "modebar.activecolor": ink });
  for (const axis of ["xaxis", "yaxis", "scene.xaxis", "scene.yaxis", "scene.zaxis"]) {
    colours[`${axis}.gridcolor`] = colours[`${axis}.zerolinecolor`] = "#7b7b7b";
    if (axis.startsWith("scene")) colours[`${axis}.backgroundcolor`] = clear;
  }
  return colours;
}

function add(parent, name, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(name), properties));
}

// A slider with its name before it and what it stands at behind it.
function addDial(parent, title, [low, high, step, start], shown, act) {
  const label = add(parent, "label");
  add(label, "span", { textContent: title });
  const input = add(label, "input", { type: "range", min: low, max: high, step, value: start });
  const number = add(label, "b", { textContent: shown(start) });
  input.addEventListener("input", () => {
    number.textContent = shown(Number(input.value));
    input.setAttribute("aria-valuetext", number.textContent);
    act(Number(input.value));
  });
}

// What plotly's slider does at each of its steps.
function addSlider(parent, plot, { steps, active = 0, currentvalue = {} }) {
  const name = (currentvalue.prefix ?? "").trim() || "step";
  addDial(parent, name, [0, steps.length - 1, 1, active], (i) => steps[i].label,
    (i) => Plotly[steps[i].method](plot, ...steps[i].args));
}

// What the mouse does to the camera of a scene.
function addCamera(parent, plot, { x, y, z }) {
  const far = Math.hypot(x, y, z), degrees = (radians) => Math.round((radians * 180) / Math.PI);
  const at = { turn: degrees(Math.atan2(y, x)), tilt: degrees(Math.asin(z / far)) };
  for (const [name, low, high] of [["turn", -180, 180], ["tilt", -80, 80]])
    addDial(parent, name, [low, high, 1, at[name]], (angle) => `${angle}°`, (angle) => {
      at[name] = angle;
      const [turn, tilt] = [at.turn, at.tilt].map((value) => (value * Math.PI) / 180), wide = far * Math.cos(tilt);
      const eye = { x: wide * Math.cos(turn), y: wide * Math.sin(turn), z: far * Math.sin(tilt) };
      Plotly.relayout(plot, { "scene.camera.eye": eye });
    });
}

// The legend: each part in its colour, to be shown and hidden.
function addLegend(parent, plot, traces) {
  const legend = add(parent, "div", { className: "segdet-legend" });
  traces.forEach((trace, i) => {
    if (!trace.name) return;
    const label = add(legend, "label");
    label.style.setProperty("--mark", trace.color ?? trace.line?.color);
    const input = add(label, "input", { type: "checkbox", checked: true });
    add(label, "span", { textContent: trace.name });
    input.addEventListener("change", () => Plotly.restyle(plot, { visible: input.checked }, [i]));
  });
}

// On a telephone the axes of a scene stand out beyond the picture, unless the camera steps back.
function stepBack({ eye }) {
  for (const axis of ["x", "y", "z"]) eye[axis] *= 1.55;
}

async function draw(holder) {
  const { data, layout, frames } = JSON.parse(holder.querySelector("script").textContent);
  await loadPlotly();
  if (layout.scene?.camera && holder.clientWidth < 480) stepBack(layout.scene.camera);
  const { sliders = [], title, scene } = layout;
  layout.showlegend = false;
  for (const name of ["sliders", "title", "width", "template"]) delete layout[name]; // the template is for a white page
  layout.margin = { ...layout.margin, t: 10, b: scene ? 0 : 45 }; // no title above, no slider below
  holder.replaceChildren();
  add(holder, "p", { className: "segdet-title", textContent: title?.text ?? title ?? "" });
  const plot = add(holder, "div"), controls = add(holder, "div", { className: "segdet-controls" });
  // showSendToCloud is on by default: a button that uploads the figure to another host
  const config = { responsive: true, displaylogo: false, showSendToCloud: false };
  await Plotly.newPlot(plot, { data, layout: { ...layout, autosize: true }, frames, config });
  await Plotly.relayout(plot, ofTheTheme());
  addLegend(controls, plot, data);
  for (const slider of sliders) addSlider(controls, plot, slider);
  if (scene?.camera) addCamera(controls, plot, scene.camera.eye);
  new MutationObserver(() => Plotly.relayout(plot, ofTheTheme()))
    .observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  holder.dataset.drawn = "";
}

const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries)
    if (isIntersecting) {
      near.unobserve(target);
      draw(target);
    }
}, { rootMargin: "600px" });
for (const holder of document.querySelectorAll(".segdet-plotly")) near.observe(holder);
