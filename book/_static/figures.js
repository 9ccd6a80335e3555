// Draws the plotly figures whose JSON book/_tools/segdet_book.py put into the page.
for (const holder of document.querySelectorAll(".segdet-plotly")) {
  const figure = JSON.parse(holder.querySelector("script").textContent);
  const layout = { ...figure.layout, autosize: true };
  delete layout.width; // the figure takes the width of the column
  holder.replaceChildren();
  // showSendToCloud is on by default: a button that uploads the figure to another host
  const config = { responsive: true, displaylogo: false, showSendToCloud: false };
  Plotly.newPlot(holder, { data: figure.data, layout, frames: figure.frames, config });
}
