"use strict";
/* Draws every figure.plot of a page from the JSON beside its canvas (src/report/plot.cpp). */
(() => {
  // One colour for one name, on every plot of a page.
  const known = {
    "METRO": 1, "metro-paper": 1, "EPLB, even split": 2, "even": 2, "homed + optimal": 3, "optimal": 4,
    "moe-TP": 5, "home": 6, "EPLB off": 8,
  };
  const style = () => getComputedStyle(document.documentElement);
  const colour = name => style().getPropertyValue(name).trim();
  const colourOf = (name, i) => colour(`--series-${known[name] || 1 + i % 8}`);
  const isNarrow = () => window.innerWidth < 560;

  function axis(label, more) {
    return Object.assign({
      title: {display: label !== "", text: label, color: colour("--muted")},
      ticks: {color: colour("--muted")}, grid: {color: colour("--line")},
    }, more);
  }
  const legend = names => ({
    display: names.length > 1, position: "bottom",
    labels: {color: colour("--ink"), boxWidth: 12, boxHeight: 12, padding: 10},
  });

  function bars(plot, box) {
    const stacked = plot.kind === "stacked";
    const longest = Math.max(0, ...plot.categories.map(name => name.length));
    const thick = stacked ? 26 : 6 + 9 * plot.series.length;
    // Long names are read from the side.
    const lying = longest > 12 || isNarrow();
    if (lying) box.style.height = `${Math.max(220, 110 + thick * plot.categories.length)}px`;
    const names = axis(plot.x_label, {stacked, grid: {display: false},
                                      ticks: {color: colour("--ink"), autoSkip: false}});
    const values = axis(plot.y_label, {stacked, beginAtZero: true});
    return {
      type: "bar",
      data: {labels: plot.categories, datasets: plot.series.map((series, i) => ({
        label: series.name, data: series.y, backgroundColor: colourOf(series.name, i), borderRadius: 2,
      }))},
      options: {
        indexAxis: lying ? "y" : "x",
        scales: lying ? {x: values, y: names} : {x: names, y: values},
      },
    };
  }

  function points(plot) {
    const lines = plot.kind === "lines";
    return {
      type: "scatter",
      data: {datasets: plot.series.map((series, i) => {
        const frontier = series.name === "frontier";
        const paint = frontier ? colour("--ink") : colourOf(series.name, i);
        return {
          label: series.name, data: series.x.map((x, j) => ({x, y: series.y[j]})),
          backgroundColor: paint, borderColor: paint, showLine: lines || frontier,
          borderWidth: frontier ? 1 : 2, borderDash: frontier ? [4, 3] : [],
          pointRadius: frontier ? 0 : lines ? 2 : 3.5, pointHitRadius: 6,
        };
      })},
      options: {scales: {x: axis(plot.x_label), y: axis(plot.y_label, {beginAtZero: true})}},
    };
  }

  function draw(figure) {
    const box = figure.querySelector(".plot-box");
    if (typeof Chart === "undefined") {
      box.remove();
      figure.querySelector("details").open = true;
      return;
    }
    const plot = JSON.parse(figure.querySelector("script").textContent);
    const config = plot.categories.length > 0 ? bars(plot, box) : points(plot);
    Object.assign(config.options, {
      animation: false, maintainAspectRatio: false,
      plugins: {legend: legend(plot.series)},
    });
    const canvas = box.querySelector("canvas");
    const before = Chart.getChart(canvas);
    if (before) before.destroy();
    new Chart(canvas, config);
  }
  const drawAll = () => document.querySelectorAll("figure.plot").forEach(draw);
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
