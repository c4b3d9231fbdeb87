// The page for people: choose, drop or paste images, see what the model says and where it looked. Talks to this server only.

const $ = (id) => document.getElementById(id);
const SENT_AT_ONCE = 4; // images a request: answers appear while the next ones are under way
const SHOWN_PX = 416;
const records = []; // {file name, record, model, at}: this session's history
let models = [];

function headers() {
  const key = $("key").value.trim();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function get(address) {
  const answer = await fetch(address, { headers: headers() });
  if (!answer.ok) throw await failure(answer);
  return answer.json();
}

async function failure(answer) {
  let reason = `the server answered ${answer.status}`;
  try {
    const body = await answer.json();
    reason = body.error ?? body.detail ?? reason;
  } catch {
    // an answer without JSON: its status is all that is known
  }
  const error = new Error(typeof reason === "string" ? reason : JSON.stringify(reason));
  error.status = answer.status;
  error.retryAfter = Number(answer.headers.get("Retry-After") ?? 0);
  return error;
}

function complain(error) {
  $("problem").textContent = error.message;
  $("problem").hidden = false;
  if (error.status === 401 || error.status === 403) {
    $("key-line").hidden = false;
    $("key").focus();
  }
}

async function loadModels() {
  try {
    models = (await get("models")).filter((model) => model.default);
  } catch (error) {
    $("model").replaceChildren(new Option("not available"));
    complain(error);
    return;
  }
  $("problem").hidden = true;
  $("model").replaceChildren(...models.map((model) => new Option(model.name, model.name)));
  $("model").disabled = models.length < 2;
  showCard();
}

function chosen() {
  return models.find((model) => model.name === $("model").value);
}

async function showCard() {
  const model = chosen();
  if (!model) return;
  $("model-state").textContent = `version ${model.version}`;
  let card;
  try {
    card = (await get(`models/${encodeURIComponent(model.name)}`)).card;
  } catch (error) {
    complain(error);
    return;
  }
  $("use").textContent = card.intended_use;
  $("explain").disabled = card.heatmap === null;
  $("explain").title = card.heatmap === null ? "this file holds no heat maps" : "";
  const accuracy = card.metrics.test?.accuracy;
  const about = [
    ["Labels", card.labels.join(", ")],
    ["Network", `${card.backbone}, ${card.width_px} × ${card.height_px} px, ${card.precision}`],
    ["Trained on", `${card.data}, ${card.protocol} split`],
    ["Test accuracy", accuracy ? `${percent(accuracy.value)}${accuracy.low === null ? "" : ` (95 %: ${percent(accuracy.low)} to ${percent(accuracy.high)})`}` : "not measured"],
    ["Leaks", card.leaks.length ? card.leaks.join("; ") : "none known"],
    ["Licence", card.licence],
    ["Runs on", model.provider],
    ["SHA-256", model.sha256],
  ];
  $("card").replaceChildren();
  for (const [name, value] of about) {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value;
    $("card").append(term, text);
  }
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

async function ask(files) {
  const images = [...files];
  if (!images.length || !chosen()) return;
  $("problem").hidden = true;
  const model = chosen().name;
  const explain = $("explain").checked && !$("explain").disabled;
  let done = 0;
  for (let start = 0; start < images.length; start += SENT_AT_ONCE) {
    const part = images.slice(start, start + SENT_AT_ONCE);
    $("status").textContent = `${done} of ${images.length} images answered …`;
    try {
      const found = await send(part, model, explain);
      for (const [number, record] of found.entries()) await add(part[number], record);
      done += part.length;
    } catch (error) {
      complain(error);
      break;
    }
  }
  $("status").textContent = done ? `${done} of ${images.length} images answered.` : "";
}

async function send(part, model, explain, patience = 5) {
  const form = new FormData();
  for (const file of part) form.append("image", file, file.name || "pasted.png");
  const answer = await fetch(`predict?${new URLSearchParams({ model, ...(explain ? { explain: "true" } : {}) })}`, {
    method: "POST",
    headers: headers(),
    body: form,
  });
  if (answer.ok || answer.status === 422) {
    const body = await answer.json();
    if (Array.isArray(body)) return body;
    throw Object.assign(new Error(body.error ?? "the server gave no records"), { status: answer.status });
  }
  const error = await failure(answer);
  if ((error.status === 503 || error.status === 429) && patience > 0) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * Math.max(error.retryAfter, 0.5)));
    return send(part, model, explain, patience - 1);
  }
  throw error;
}

async function add(file, record) {
  const name = file.name || "pasted image";
  records.push({ name, record, at: new Date() });
  const item = $("record").content.firstElementChild.cloneNode(true);
  const find = (selector) => item.querySelector(selector);
  find("figcaption").textContent = name;
  if (record.error) {
    item.classList.add("failed");
    find(".label").textContent = "not read";
    find(".confidence").textContent = record.error;
    find(".picture").hidden = true;
  } else {
    find(".label").textContent = record.abstained ? "no answer" : record.label;
    find(".confidence").textContent = record.abstained ? `it would say ${record.label}, ${percent(record.probability)}` : percent(record.probability);
    find(".badge").hidden = !record.abstained;
    find(".badge").textContent = "abstains: a person should look";
    await draw(find(".image"), file, `${name}: ${record.abstained ? "no answer" : record.label}`);
    const bars = Object.entries(record.probabilities).sort((a, b) => b[1] - a[1]);
    find(".bars").append(...bars.map(([label, value]) => bar(item, record, label, value)));
    if (record.heatmaps) look(item, record, record.label);
  }
  find(".origin").textContent = `model ${record.model.slice(0, 12)} on ${record.provider}`;
  $("records").prepend(item);
  $("nothing").hidden = true;
  $("tools").hidden = false;
  const unread = records.filter((entry) => entry.record.error).length;
  $("tally").textContent = `${records.length} images${unread ? `, ${unread} not read` : ""}`;
}

function bar(item, record, label, value) {
  const line = $("bar").content.firstElementChild.cloneNode(true);
  const button = line.querySelector("button");
  line.querySelector(".name").textContent = label;
  line.querySelector(".fill").style.width = `${100 * value}%`;
  line.querySelector(".value").textContent = percent(value);
  button.dataset.label = label;
  button.disabled = !record.heatmaps;
  button.addEventListener("click", () => look(item, record, button.getAttribute("aria-pressed") === "true" ? null : label));
  return line;
}

async function draw(canvas, file, description) {
  canvas.setAttribute("aria-label", description);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    canvas.parentElement.hidden = true; // a kind the browser cannot show, such as TIFF; the answer stands all the same
    return;
  }
  const scale = Math.min(1, SHOWN_PX / bitmap.width);
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
}

// Class activation of one label [rows][columns], 0 where nothing speaks for it; the strongest place of the map is opaque.
// record.seen: left, top, right and bottom edge of what the map is of, in shares of the image; what the network did not see is darker.
function look(item, record, label) {
  for (const button of item.querySelectorAll(".bar")) button.setAttribute("aria-pressed", String(button.dataset.label === label));
  const canvas = item.querySelector(".heat");
  const words = item.querySelector(".looked");
  canvas.hidden = words.hidden = label === null;
  if (label === null) return;
  const map = record.heatmaps[label];
  const [height, width] = [map.length, map[0].length];
  const highest = Math.max(...map.flat());
  const pixels = new ImageData(width, height);
  map.flat().forEach((value, number) => {
    const share = highest > 0 ? Math.max(0, value) / highest : 0;
    pixels.data.set([255, Math.round(200 * (1 - share)), 0, Math.round(170 * share)], 4 * number);
  });
  const small = new OffscreenCanvas(width, height);
  small.getContext("2d").putImageData(pixels, 0, 0);
  const image = item.querySelector(".image");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [left, top, right, bottom] = record.seen.map((share, side) => share * (side % 2 ? canvas.height : canvas.width));
  context.fillStyle = "rgb(0 0 0 / 50%)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.clearRect(left, top, right - left, bottom - top);
  context.drawImage(small, left, top, right - left, bottom - top);
  words.textContent = highest > 0 ? `Red: what speaks for ${label}.` : `Nothing in the image speaks for ${label}.`;
}

const quoted = (value) => {
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; // a spreadsheet must not take a file name for a formula
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

function download() {
  const labels = [...new Set(records.flatMap((entry) => Object.keys(entry.record.probabilities ?? {})))];
  const rows = [["image", "label", "probability", ...labels.map((label) => `p_${label}`), "abstained", "error", "model", "provider", "time"]];
  for (const { name, record, at } of records) {
    const shares = labels.map((label) => record.probabilities?.[label]);
    rows.push([name, record.label, record.probability, ...shares, record.abstained, record.error, record.model, record.provider, at.toISOString()]);
  }
  const text = rows.map((row) => row.map(quoted).join(",")).join("\r\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${text}\r\n`], { type: "text/csv" }));
  link.download = "cellclf.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

function clear() {
  records.length = 0;
  $("records").replaceChildren();
  $("nothing").hidden = false;
  $("tools").hidden = true;
  $("status").textContent = "Cleared.";
  $("files").focus();
}

$("files").addEventListener("change", async (event) => {
  await ask(event.target.files);
  event.target.value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  ask(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => ask(event.clipboardData.files));
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!models.length) loadModels();
});
$("key").addEventListener("change", () => loadModels());
$("model").addEventListener("change", showCard);
$("csv").addEventListener("click", download);
$("clear").addEventListener("click", clear);
loadModels();
