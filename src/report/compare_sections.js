"use strict";
/* The map and the chart of one result of `metro compare`. */
function drawComparison(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const part = name => root.querySelector(`[data-part="${name}"]`);
  const fields = ["algorithm", "gpus", "replication", "tokens", "policy", "max", "none", "sharded",
                  "vsEven", "vsNone", "worse", "layout"];
  for (const trace of data.traces) {
    trace.rows = trace.rows.map(
        values => Object.fromEntries(fields.map((name, i) => [name, values[i]])));
  }
  const batchOf = row => data.per_gpu ? row.tokens / row.gpus : row.tokens;
  const unique = values => [...new Set(values)];
  const nearest = (values, wanted) =>
      values.reduce((a, b) => Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a);
  const sizes = unique(data.traces[0].rows.map(batchOf));
  const replications = unique(data.replication);
  const state = {
    trace: 0,
    policy: data.policies.includes(data.headline.policy) ? data.headline.policy : data.policies[0],
    algorithm: data.algorithms[data.algorithms.length - 1],
    layout: data.headline.layout,  // how many GPUs, in how many groups
    size: nearest(sizes, data.per_gpu ? 2 : 32),  // where choosing replicas matters most
  };
  const rows = () => data.traces[state.trace].rows;

  /* An element with text or children; text never becomes markup. */
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    element.append(...children.map(child => child instanceof Node ? child : String(child)));
    return element;
  }
  const kindOf = ratio => ratio < 1 ? "better" : ratio > 1 ? "worse" : "equal";
  /* 1.003 must not read as 1.00. */
  const ratioText = ratio => {
    const text = ratio.toFixed(2);
    return text !== "1.00" || ratio === 1 ? text : ratio > 1 ? "1.00+" : "1.00\u2212";
  };
  function shade(ratio) {
    if (ratio === 1) return "";
    const strength = Math.min(1, Math.abs(Math.log2(ratio)) / 0.7);
    const colour = ratio < 1 ? "--better" : "--worse";
    return `background: rgba(var(${colour}), ${(0.12 + 0.5 * strength).toFixed(2)})`;
  }
  const table = (header, body) => make("div", {class: "scroll"}, make("table", {},
      make("thead", {}, make("tr", {}, ...header.map(text => make("th", {scope: "col"}, text)))),
      make("tbody", {}, ...body)));

  /* How a policy does over the whole grid of one placement. */
  function summarise(algorithm, policy) {
    const of = rows().filter(row => row.algorithm === algorithm && row.policy === policy);
    const count = kind => of.filter(row => kindOf(row.vsNone) === kind).length;
    const worseBatches = of.reduce((sum, row) => sum + row.worse, 0);
    const share = 100 * worseBatches / (of.length * data.traces[state.trace].samples);
    return {
      points: of.length, fewer: count("better"), same: count("equal"), more: count("worse"),
      worst: Math.max(...of.map(row => row.vsNone)),
      batches: worseBatches === 0 ? "none" : share < 0.1 ? "<0.1 %" : `${share.toFixed(1)} %`,
    };
  }

  function drawOverview() {
    const algorithms = unique(data.algorithms);
    const header = ["Policy"];
    for (const algorithm of algorithms) {
      header.push(`${algorithm}: fewer / same / more`, "worst", "batches above");
    }
    const body = unique(data.policies).map(policy => {
      const choose = make("button", {class: "policy", type: "button"}, policy);
      choose.addEventListener("click", () => { state.policy = policy; drawAll(); });
      const cells = algorithms.flatMap(algorithm => {
        const found = summarise(algorithm, policy);
        const kind = found.more > 0 ? "worse" : found.fewer > 0 ? "better" : "equal";
        return [make("td", {class: kind}, `${found.fewer} / ${found.same} / ${found.more}`),
                make("td", {class: kind}, ratioText(found.worst)),
                make("td", {class: kind}, found.batches)];
      });
      return make("tr", {}, make("th", {scope: "row"}, choose), ...cells);
    });
    part("overview").replaceChildren(table(header, body));
  }

  function panel(algorithm, replication) {
    const of = rows().filter(row => row.algorithm === algorithm && row.policy === state.policy &&
                                    row.replication === replication);
    const at = new Map(of.map(row => [`${row.layout} ${batchOf(row)}`, row]));
    const body = unique(data.layouts).map(layout => make("tr", {}, make("th", {scope: "row"}, layout),
        ...sizes.map(size => {
          const row = at.get(`${layout} ${size}`);
          if (!row) return make("td", {}, "");
          return make("td", {
            class: kindOf(row.vsNone), style: shade(row.vsNone),
            title: `GPUs ${layout}, ${row.tokens} tokens: ${row.max.toFixed(2)} against ` +
                   `${row.none.toFixed(2)} without replicas`,
          }, ratioText(row.vsNone));
        })));
    return make("div", {class: "panel"}, make("h4", {}, `${algorithm}, ${replication}x`),
        make("table", {},
            make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "GPUs"),
                ...sizes.map(size => make("th", {scope: "col"}, size)))),
            make("tbody", {}, ...body)),
        make("p", {class: "axis"}, data.per_gpu ? "tokens per GPU" : "tokens in the batch"));
  }

  function drawMap() {
    const algorithms = unique(data.algorithms);
    part("map").replaceChildren(...algorithms.map(algorithm =>
        make("div", {class: "panels"},
             ...replications.map(replication => panel(algorithm, replication)))));
    const verdicts = algorithms.map(algorithm => {
      const {more, points} = summarise(algorithm, state.policy);
      return `on ${algorithm} ${more === 0 ? "never" : `at ${more} of ${points} points`}`;
    });
    part("map-verdict").textContent =
        `${state.policy} is above EPLB off ${verdicts.join(", ")}.`;
  }

  let chart = null;
  function drawChart() {
    const of = rows().filter(row => row.algorithm === state.algorithm && row.layout === state.layout &&
                                    batchOf(row) === state.size);
    const at = new Map(of.map(row => [`${row.policy} ${row.replication}`, row]));
    const policies = unique(data.policies);
    const reference = of[0];
    const labels = ["EPLB off", ...policies, "moe-TP"];
    const series = replications.map(replication => [
      reference.none, ...policies.map(policy => at.get(`${policy} ${replication}`).max),
      reference.sharded]);
    part("chart-table").replaceChildren(table(
        ["Replication", ...labels],
        series.map((values, i) => make("tr", {}, make("th", {scope: "row"}, `${replications[i]}x`),
            ...values.map((value, j) => make("td", {
              class: j === 0 || j === labels.length - 1 ? "" : kindOf(value / reference.none),
            }, value.toFixed(2)))))));
    const box = part("chart-box");
    if (typeof Chart === "undefined") {
      box.style.height = "auto";
      box.replaceChildren(make("p", {class: "note"},
          "The chart is left out: this metro was built without Chart.js. The table has its figures."));
      return;
    }
    const style = getComputedStyle(document.documentElement);
    const colour = name => style.getPropertyValue(name).trim();
    const narrow = window.innerWidth < 560;
    const shadeOf = i => colour(`--shade-${replications.length === 1 ? 3 :
        1 + Math.round(3 * i / (replications.length - 1))}`);
    const grid = {color: colour("--line")};
    const value = {beginAtZero: true, grid, ticks: {color: colour("--muted")},
                   title: {display: true, text: "max activated experts per GPU",
                           color: colour("--muted")}};
    const names = {grid: {display: false},
                   ticks: {color: colour("--ink"), autoSkip: false, maxRotation: 60}};
    if (chart) chart.destroy();
    chart = new Chart(part("chart-box").querySelector("canvas"), {
      type: "bar",
      data: {
        labels,
        datasets: series.map((values, i) => ({
          label: `${replications[i]}x`,
          data: values,
          backgroundColor: labels.map(
              (_, j) => j === 0 || j === labels.length - 1 ? colour("--reference") : shadeOf(i)),
          borderRadius: 2,
        })),
      },
      options: {
        animation: false, maintainAspectRatio: false, indexAxis: narrow ? "y" : "x",
        scales: narrow ? {x: value, y: names} : {x: names, y: value},
        plugins: {legend: {labels: {
          color: colour("--ink"),
          generateLabels: () => replications.map((replication, i) => ({
            text: `${replication}x`, fillStyle: shadeOf(i), strokeStyle: shadeOf(i),
            fontColor: colour("--ink")})),
        }, onClick: () => {}}},
      },
    });
  }

  function control(box, label, key, options) {
    if (options.length < 2) return;
    const select = make("select", {}, ...options.map(([value, text]) => {
      const option = make("option", {value: JSON.stringify(value)}, text);
      option.selected = value === state[key];
      return option;
    }));
    select.addEventListener("change", () => { state[key] = JSON.parse(select.value); drawAll(); });
    box.append(make("label", {}, label, select));
  }
  function drawControls() {
    const traces = data.traces.map((trace, i) => [i, trace.label]);
    const plain = values => unique(values).map(value => [value, String(value)]);
    const map = part("map-controls");
    const bars = part("chart-controls");
    map.replaceChildren();
    bars.replaceChildren();
    control(map, "Trace", "trace", traces);
    control(map, "Policy", "policy", plain(data.policies));
    control(bars, "Trace", "trace", traces);
    control(bars, "Placement", "algorithm", plain(data.algorithms));
    control(bars, "GPUs", "layout", plain(data.layouts));
    control(bars, data.per_gpu ? "Tokens per GPU" : "Tokens", "size", plain(sizes));
  }
  function drawAll() {
    drawControls();
    drawOverview();
    drawMap();
    drawChart();
  }
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawChart);
}
document.querySelectorAll(".compare").forEach(drawComparison);
