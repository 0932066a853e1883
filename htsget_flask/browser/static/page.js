// The datasets, and igv.js on one of them. The address holds the view: dataset, formats, locus, search.

const page = document.body.dataset;
const byId = (id) => document.getElementById(id);
// By default igv.js's navigation bar is one line, which may be wider than its column; its style is in a shadow root.
const STYLE = `.igv-navbar { white-space: nowrap; }
.igv-navbar, .igv-navbar .igv-navbar-left-container,
.igv-navbar .igv-navbar-left-container .igv-navbar-genomic-location,
.igv-navbar .igv-navbar-left-container .igv-navbar-genomic-location .igv-locus-size-group
  { height: auto; flex-wrap: wrap; justify-content: start; }
.igv-navbar { justify-content: space-between; row-gap: 4px; padding-bottom: 4px; }
@media (max-width: 48rem) {
  .igv-navbar-left-container .igv-logo, .igv-navbar-left-container .igv-current-genome { display: none; }
}`;
const DEBOUNCE = 250; // ms without a change before the address and the list are updated

let dataset = null; // the dataset of the article, as the server describes it
let browser = null; // igv.js's browser of it
let fallback = null; // the loci that igv.js shows if it has none of those in the address
let latestView = 0; // the number of the latest view: results for earlier ones are dropped

// Stored until the window is closed, and sent with requests for datasets and tickets, never in a URL.
const TOKEN = "htsget_flask.token";
const token = () => sessionStorage.getItem(TOKEN) ?? "";

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function showMessage(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

async function request(path, query) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`, { headers });
  const content = await answer.json().catch(() => null);
  if (!answer.ok || content === null) {
    throw new Error(content?.htsget?.message ?? `the server answered with status ${answer.status}`);
  }
  return content;
}

function debounced(action) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), DEBOUNCE);
  };
}

function size(bytes) {
  if (bytes === null) return "missing";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

// ---- the address

function parameters() {
  return new URLSearchParams(location.search);
}

function address(changes) {
  const query = parameters();
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  // These have no meaning in a query, and are easier to read unescaped.
  const text = String(query).replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%2F", "/");
  return text ? `?${text}` : location.pathname;
}

function updateAddress(changes) {
  history.replaceState(null, "", address(changes));
}

// ---- the list

let latestList = 0; // the number of the latest request for it

async function list(cursor = null) {
  const number = ++latestList;
  const words = byId("search").value.trim();
  let result;
  try {
    result = await request("page/datasets", cursor === null ? { search: words } : { search: words, cursor });
  } catch (error) {
    if (number === latestList) byId("found").textContent = `The datasets cannot be listed: ${error.message}.`;
    return;
  }
  if (number !== latestList) return;
  const items = result.datasets.map(({ id, name, files }) => {
    const link = element(
      "a",
      { href: address({ dataset: id, formats: "", locus: "" }) },
      name ?? id,
      element("small", { textContent: files.map((file) => `${file.format} ${size(file.size)}`).join(", ") }),
    );
    link.dataset.id = id;
    return element("li", {}, link);
  });
  if (cursor !== null) byId("datasets").append(...items);
  else byId("datasets").replaceChildren(...items);
  byId("more").hidden = result.cursor === null;
  byId("more").onclick = () => list(result.cursor);
  const missing = result.isComplete ? "" : " Some cannot be listed at the moment; the server's log has the reason.";
  const count = result.total ?? byId("datasets").childElementCount;
  byId("found").textContent = countText(count, words, result.total === null && result.cursor !== null) + missing;
  markCurrent();
}

function countText(total, words, isPart) {
  if (isPart) return `${total.toLocaleString("en")} dataset${total === 1 ? "" : "s"} so far`;
  if (total) return `${total.toLocaleString("en")} dataset${total === 1 ? "" : "s"}${words ? " found" : ""}`;
  if (words) return `No dataset has “${words}” in its id, name or description.`;
  if (byId("access")) return "There are no datasets that are public or that this access token opens.";
  return "There are no datasets yet: no BAM, CRAM, VCF.gz or BCF file where the configuration looks for them.";
}

function markCurrent() {
  for (const link of byId("datasets").querySelectorAll("a")) {
    if (link.dataset.id === parameters().get("dataset")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

// ---- a dataset

async function show() {
  const view = ++latestView;
  const id = parameters().get("dataset");
  close();
  document.body.classList.toggle("chosen", id !== null);
  byId("hint").hidden = id !== null;
  byId("dataset").hidden = true;
  document.title = id === null ? page.title : `${id} – ${page.title}`;
  markCurrent();
  if (id === null) return;
  try {
    const description = await request("page/dataset", { id });
    if (view !== latestView) return;
    dataset = description;
  } catch (error) {
    if (view === latestView) showMessage(`“${id}” cannot be shown: ${error.message}.`);
    return;
  }
  byId("dataset").hidden = false;
  byId("name").textContent = dataset.name ?? dataset.id;
  byId("id").textContent = dataset.name ? dataset.id : "";
  byId("description").textContent = dataset.description ?? "";
  byId("note").textContent = dataset.note ?? "";
  renderFiles();
  renderCommands();
  await open(view);
}

function close() {
  showMessage("");
  dataset = null;
  browser = null;
  fallback = null;
  byId("igv").replaceChildren();
}

function drawableFiles() {
  return dataset.reference === null ? [] : dataset.files.filter((file) => file.track !== null);
}

// The files of the formats in the address; without any, the first file of reads and the first of variants.
function chosenFiles() {
  const named = parameters().get("formats")?.split(",");
  if (named) return drawableFiles().filter((file) => named.includes(file.format));
  const endpoints = drawableFiles().map((file) => file.endpoint);
  return drawableFiles().filter((file, index) => endpoints.indexOf(file.endpoint) === index);
}

function renderFiles() {
  byId("files").replaceChildren(
    ...dataset.files.map((file) => {
      const box = element("input", {
        type: "checkbox",
        value: file.format,
        checked: chosenFiles().includes(file),
        disabled: !drawableFiles().includes(file),
        onchange: () => {
          const boxes = [...byId("files").querySelectorAll("input:checked")];
          updateAddress({ formats: boxes.map((checked) => checked.value).join(",") || "none" });
          reopen();
        },
      });
      const label = element("label", {}, box, file.format, element("small", { textContent: size(file.size) }));
      if (file.problem === null) return element("li", {}, label);
      return element("li", { className: "problem" }, label, " ", element("small", { textContent: file.problem }));
    }),
  );
}

function reopen() {
  showMessage("");
  browser = null;
  fallback = null;
  byId("igv").replaceChildren();
  renderCommands();
  return open(++latestView);
}

// Tickets need the token; the URLs in them, and those of plain files, are signed.
function withToken(track) {
  return token() && track.sourceType === "htsget" ? { ...track, oauthToken: token() } : track;
}

// igv.js inserts names as HTML.
function escapeNames(track) {
  const name = track.name?.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
  return { ...track, ...(name && { name }), ...(track.tracks && { tracks: track.tracks.map(escapeNames) }) };
}

let igvJs = null;
let hasGenomeList = null; // whether igv.js has its list of genomes, read with the first dataset or never

// As a script first, since an import cannot be checked against a hash; the import then returns the loaded module.
function loadIgvJs() {
  igvJs ??= new Promise((resolve, reject) => {
    const url = new URL(page.igvJs, location.href).href;
    const script = element("script", { type: "module", src: url, crossOrigin: "anonymous" });
    if (page.igvJsIntegrity) script.integrity = page.igvJsIntegrity;
    script.onload = () => import(url).then((module) => resolve(module.default ?? globalThis.igv), reject);
    script.onerror = () => reject(new Error(url));
    document.head.append(script);
  });
  return igvJs;
}

async function open(view) {
  const tracks = chosenFiles().map((file) => file.track);
  if (!drawableFiles().length) {
    const hint = commands.length ? "; the commands below do not need it" : "";
    showMessage(`igv.js can show none of this dataset's files${hint}.`);
    return;
  }
  if (!tracks.length) return;
  if (location.protocol === "https:" && tracks.some((track) => track.url.startsWith("http:"))) {
    showMessage("The page was loaded over https, but the server's URLs are http: set public_url or trusted_proxies.");
    return;
  }
  let igv;
  try {
    igv = await loadIgvJs();
  } catch {
    igvJs = null;
    showMessage(
      `igv.js could not be loaded from ${new URL(page.igvJs, location.href).href}, so nothing is drawn; the commands ` +
        "below do not need it. The operator of this server can configure a local copy: browser.igv_js.",
    );
    return;
  }
  if (view !== latestView) return;
  const container = element("div");
  byId("igv").replaceChildren(container);
  const reference = structuredClone(dataset.reference);
  const needsGenomeList = typeof reference === "string";
  if (needsGenomeList && hasGenomeList === false) {
    location.reload();
    return;
  }
  hasGenomeList ??= needsGenomeList;
  try {
    const created = await igv.createBrowser(container, {
      ...(needsGenomeList ? { genome: reference } : { reference }),
      locus: parameters().get("locus")?.split(" ") ?? dataset.locus ?? undefined,
      tracks: structuredClone([...dataset.access, ...dataset.tracks, ...tracks.map(withToken)]).map(escapeNames),
      // No requests to third parties: the list of genomes only for a dataset that needs it, no search of genes.
      loadDefaultGenomes: needsGenomeList,
      search: false,
      queryParametersSupported: false,
      listeners: { locuschange: (frames) => view === latestView && onLocusChange(frames) },
    });
    if (view !== latestView) {
      igv.removeBrowser(created);
      return;
    }
    browser = created;
    // For use in the console.
    globalThis.igvBrowser = browser;
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    container.shadowRoot.adoptedStyleSheets.push(style);
    const absent = await absentLoci(browser);
    if (view !== latestView) return;
    onLocusChange(browser.referenceFrameList);
    if (absent.length) {
      fallback = loci();
      const names = absent.join(" and ");
      showMessage(`The link names ${names}, which this dataset does not have. Shown instead: ${fallback}.`);
    }
  } catch (error) {
    if (view !== latestView) return;
    byId("igv").replaceChildren();
    showMessage(`igv.js cannot open this dataset: ${error.message ?? error}.`);
  }
}

// ---- the locus

let frames = [];

function loci() {
  return frames
    .map(({ chr, start, end }) => (chr === "all" ? "all" : `${chr}:${Math.floor(start) + 1}-${Math.ceil(end)}`))
    .join(" ");
}

// The loci of the address whose reference the genome lacks; igv.js silently shows its first reference instead.
async function absentLoci(igvBrowser) {
  const requested = parameters().get("locus")?.split(" ").filter((locus) => locus && locus !== "all") ?? [];
  // A locus without a position may be the name of a gene in a track.
  const hasNames = dataset.tracks.some((track) => track.searchable);
  const checked = requested.filter((locus) => !hasNames || locus.includes(":"));
  const references = await Promise.all(
    checked.map((locus) => igvBrowser.genome.loadChromosome(locus.replace(/:[0-9,]+(-[0-9,]+)?$/, ""))),
  );
  return checked.filter((locus, index) => !references[index]);
}

function onLocusChange(referenceFrames) {
  frames = referenceFrames ?? [];
  followLoci();
}

const followLoci = debounced(() => {
  if (browser === null) return;
  const current = loci();
  if (current !== fallback) {
    // The user has moved away from the fallback.
    if (fallback !== null) showMessage("");
    fallback = null;
    updateAddress({ locus: current });
  }
  renderCommands();
});

// ---- commands

// 0-based and half-open, as in htsget; empty for whole files.
function regions() {
  if (browser !== null) {
    return frames
      .filter((frame) => frame.chr !== "all")
      .map(({ chr, start, end }) => ({ referenceName: chr, start: Math.max(0, Math.floor(start)), end: Math.ceil(end) }));
  }
  const text = parameters().get("locus") ?? dataset.locus ?? "";
  return [...text.matchAll(/(\S+):([0-9,]+)-([0-9,]+)/g)].map(([, referenceName, ...numbers]) => {
    const [start, end] = numbers.map((number) => Number(number.replaceAll(",", "")));
    return { referenceName, start: start - 1, end };
  });
}

let commands = []; // the commands in the article
let rendered = ""; // commands and tracks as text: equal ones are not rendered again, as their buttons may be in use

function renderCommands() {
  const files = chosenFiles().length ? chosenFiles() : dataset.files.filter((file) => file.isReadable);
  commands = files.flatMap((file) =>
    // Regions need an index.
    (file.isIndexed && regions().length ? regions() : [{}]).map((region) => {
      const parameters = new URLSearchParams({ format: file.ticketFormat, ...region });
      // htslib reads the token from a file.
      const variable = token() ? "HTS_AUTH_LOCATION=token.txt " : "";
      return `${variable}${file.tool} view "${file.ticket}?${parameters}"`;
    }),
  );
  const tracks = JSON.stringify([...dataset.tracks, ...chosenFiles().map((file) => file.track)], null, 2);
  const needs = [
    !commands.length && "None of the files can be read at the moment.",
    commands.length && token() && "Put the access token into the file token.txt first.",
    files.some((file) => file.needsReference) &&
      "samtools decodes CRAM with its reference sequence: a FASTA file given by -T, or found through REF_PATH.",
  ];
  byId("needs").textContent = needs.filter(Boolean).join(" ");
  if (rendered === (rendered = `${commands}${tracks}`)) return;
  const details = element(
    "details",
    { open: byId("commands").querySelector("details")?.open ?? false },
    element("summary", { textContent: "igv.js tracks" }),
    copyable(tracks, "Copy the igv.js tracks"),
  );
  const lines = commands.map((text) => copyable(text, `Copy the ${text.match(/\w+(?= view )/)} command`));
  byId("commands").replaceChildren(...lines, ...(tracks === "[]" ? [] : [details]));
}

function copyable(text, label) {
  const content = element("pre", { textContent: text, tabIndex: 0 });
  const button = element("button", { type: "button", textContent: "Copy", ariaLabel: label });
  button.onclick = async () => {
    button.textContent = (await copy(text, content)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };
  return element("div", { className: "command" }, content, button);
}

// Browsers offer the clipboard only to pages of https and of this machine; elsewhere the selection is copied.
async function copy(text, content) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(content);
    return document.execCommand("copy");
  }
}

// ---- the start

byId("datasets").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link === null || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.pushState(null, "", address({ dataset: link.dataset.id, formats: "", locus: "" }));
  show().then(() => byId("name").focus({ preventScroll: true }));
  scrollTo(0, 0);
});
byId("search").addEventListener(
  "input",
  debounced(() => {
    updateAddress({ search: byId("search").value.trim() });
    list();
  }),
);
byId("access")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const value = byId("token").value.trim();
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
  byId("token").value = "";
  list();
  show();
});
addEventListener("popstate", show);
byId("search").value = parameters().get("search") ?? "";
list();
show();
