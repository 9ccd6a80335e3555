// Draws the plotly figures whose JSON book/_tools/segdet_book.py put into the page, in the colours of its theme.
function ofTheTheme() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--pst-color-text-base").trim(), clear = "rgba(0,0,0,0)";
  const colours = { "font.color": ink, paper_bgcolor: clear, plot_bgcolor: clear };
  for (const axis of ["xaxis", "yaxis", "scene.xaxis", "scene.yaxis", "scene.zaxis"]) {
    colours[`${axis}.gridcolor`] = colours[`${axis}.zerolinecolor`] = "#7b7b7b";
    if (axis.startsWith("scene")) colours[`${axis}.backgroundcolor`] = clear;
  }
  return colours;
}

const holders = [...document.querySelectorAll(".segdet-plotly")];
for (const holder of holders) {
  const figure = JSON.parse(holder.querySelector("script").textContent);
  const layout = { ...figure.layout, autosize: true };
  delete layout.width; // the figure takes the width of the column
  delete layout.template; // its ground and grid are for a white page
  holder.replaceChildren();
  // showSendToCloud is on by default: a button that uploads the figure to another host
  const config = { responsive: true, displaylogo: false, showSendToCloud: false };
  Plotly.newPlot(holder, { data: figure.data, layout, frames: figure.frames, config })
    .then(() => Plotly.relayout(holder, ofTheTheme()));
}
new MutationObserver(() => holders.forEach((holder) => Plotly.relayout(holder, ofTheTheme())))
  .observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
