// The datasets, and igv.js on one of them. What is looked at stands in the address: dataset, formats, locus, search.

const page = document.body.dataset;
const part = (id) => document.getElementById(id);
// igv.js's bar of controls has one line, which may be wider than its column; its style lies in a shadow root.
const STYLE = `.igv-navbar { white-space: nowrap; }
.igv-navbar, .igv-navbar .igv-navbar-left-container,
.igv-navbar .igv-navbar-left-container .igv-navbar-genomic-location,
.igv-navbar .igv-navbar-left-container .igv-navbar-genomic-location .igv-locus-size-group
  { height: auto; flex-wrap: wrap; justify-content: start; }
.igv-navbar { justify-content: space-between; row-gap: 4px; padding-bottom: 4px; }
@media (max-width: 48rem) {
  .igv-navbar-left-container .igv-logo, .igv-navbar-left-container .igv-current-genome { display: none; }
}`;
const SETTLED = 250; // ms without a change before the address and the list follow

let shown = null; // the dataset that the article is about, as the server describes it
let browser = null; // igv.js's, on it
let fallback = null; // the loci that igv.js shows instead of those in the address, which it does not know
let turn = 0; // how often another view was asked for: what comes late for an earlier one is dropped

// Kept as long as the window is open, and sent with what asks for datasets and tickets, never in an address.
const TOKEN = "htsget_flask.token";
const token = () => sessionStorage.getItem(TOKEN) ?? "";

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function tell(text) {
  part("message").textContent = text;
  part("message").hidden = !text;
}

async function ask(path, parameters) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, { headers });
  const content = await answer.json().catch(() => null);
  if (!answer.ok || content === null) {
    throw new Error(content?.htsget?.message ?? `the server answered with status ${answer.status}`);
  }
  return content;
}

function afterwards(action) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), SETTLED);
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

function wanted() {
  return new URLSearchParams(location.search);
}

function address(changes) {
  const parameters = wanted();
  for (const [name, value] of Object.entries(changes)) {
    if (value) parameters.set(name, value);
    else parameters.delete(name);
  }
  // These mean nothing in a query; a person reads them more easily as they are.
  const query = String(parameters).replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%2F", "/");
  return query ? `?${query}` : location.pathname;
}

function note(changes) {
  history.replaceState(null, "", address(changes));
}

// ---- the list

let listed = 0; // how often it was asked for

async function list(cursor = null) {
  const asked = ++listed;
  const words = part("search").value.trim();
  let found;
  try {
    found = await ask("page/datasets", cursor === null ? { search: words } : { search: words, cursor });
  } catch (error) {
    if (asked === listed) part("found").textContent = `The datasets cannot be listed: ${error.message}.`;
    return;
  }
  if (asked !== listed) return;
  const items = found.datasets.map((dataset) => {
    const link = element(
      "a",
      { href: address({ dataset: dataset.id, formats: "", locus: "" }) },
      dataset.name ?? dataset.id,
      element("small", { textContent: dataset.files.map((file) => `${file.format} ${size(file.size)}`).join(", ") }),
    );
    link.dataset.id = dataset.id;
    return element("li", {}, link);
  });
  if (cursor !== null) part("datasets").append(...items);
  else part("datasets").replaceChildren(...items);
  part("more").hidden = found.cursor === null;
  part("more").onclick = () => list(found.cursor);
  const missing = found.isComplete ? "" : " Some cannot be listed at the moment; the server's log says why.";
  const count = found.total ?? part("datasets").childElementCount;
  part("found").textContent = described(count, words, found.total === null && found.cursor !== null) + missing;
  mark();
}

function described(total, words, isPart) {
  if (isPart) return `${total.toLocaleString("en")} dataset${total === 1 ? "" : "s"} so far`;
  if (total) return `${total.toLocaleString("en")} dataset${total === 1 ? "" : "s"}${words ? " found" : ""}`;
  if (words) return `No dataset has “${words}” in its id, name or description.`;
  if (part("access")) return "There are no datasets that this access token opens, or that need none.";
  return "There are no datasets yet: no BAM, CRAM, VCF.gz or BCF file where the configuration looks for them.";
}

function mark() {
  for (const link of part("datasets").querySelectorAll("a")) {
    if (link.dataset.id === wanted().get("dataset")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

// ---- a dataset

async function show() {
  const now = ++turn;
  const id = wanted().get("dataset");
  close();
  document.body.classList.toggle("chosen", id !== null);
  part("hint").hidden = id !== null;
  part("dataset").hidden = true;
  document.title = id === null ? page.title : `${id} – ${page.title}`;
  mark();
  if (id === null) return;
  try {
    const dataset = await ask("page/dataset", { id });
    if (now !== turn) return;
    shown = dataset;
  } catch (error) {
    if (now === turn) tell(`“${id}” cannot be shown: ${error.message}.`);
    return;
  }
  part("dataset").hidden = false;
  part("name").textContent = shown.name ?? shown.id;
  part("id").textContent = shown.name ? shown.id : "";
  part("description").textContent = shown.description ?? "";
  part("note").textContent = shown.note ?? "";
  choose();
  command();
  await open(now);
}

function close() {
  tell("");
  shown = null;
  browser = null;
  fallback = null;
  part("igv").replaceChildren();
}

function showable() {
  return shown.reference === null ? [] : shown.files.filter((file) => file.track !== null);
}

// Those that the address names; else the first of the reads and the first of the variants.
function chosen() {
  const named = wanted().get("formats")?.split(",");
  if (named) return showable().filter((file) => named.includes(file.format));
  return showable().filter((file, place, all) => all.findIndex((one) => one.endpoint === file.endpoint) === place);
}

function choose() {
  part("files").replaceChildren(
    ...shown.files.map((file) => {
      const box = element("input", {
        type: "checkbox",
        value: file.format,
        checked: chosen().includes(file),
        disabled: !showable().includes(file),
        onchange: () => {
          const boxes = [...part("files").querySelectorAll("input:checked")];
          note({ formats: boxes.map((one) => one.value).join(",") || "none" });
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
  tell("");
  browser = null;
  fallback = null;
  part("igv").replaceChildren();
  command();
  return open(++turn);
}

// Tickets need the token; what they name, and plain files, is signed.
function withToken(track) {
  return token() && track.sourceType === "htsget" ? { ...track, oauthToken: token() } : track;
}

// igv.js takes names for HTML.
function escaped(track) {
  const name = track.name?.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
  return { ...track, ...(name && { name }), ...(track.tracks && { tracks: track.tracks.map(escaped) }) };
}

let igvJs = null;
let hasGenomeList = null; // whether igv.js has its list of genomes, which it reads with the first dataset or never

// As a script first: an import alone could not be checked against the hash. The import then finds it loaded.
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

async function open(now) {
  const tracks = chosen().map((file) => file.track);
  if (!showable().length) {
    tell(`igv.js can show none of this dataset's files${commands.length ? "; the commands below do not need it" : ""}.`);
    return;
  }
  if (!tracks.length) return;
  if (location.protocol === "https:" && tracks.some((track) => track.url.startsWith("http:"))) {
    tell("This page came by https, but the server believes it is reached by http: set public_url or trusted_proxies.");
    return;
  }
  let igv;
  try {
    igv = await loadIgvJs();
  } catch {
    igvJs = null;
    tell(
      `igv.js could not be loaded from ${new URL(page.igvJs, location.href).href}, so nothing is drawn; the commands ` +
        "below do not need it. In a network without access to it, the operator of this server can name a copy: " +
        "browser.igv_js.",
    );
    return;
  }
  if (now !== turn) return;
  const place = element("div");
  part("igv").replaceChildren(place);
  const reference = structuredClone(shown.reference);
  const needsGenomeList = typeof reference === "string";
  if (needsGenomeList && hasGenomeList === false) {
    location.reload();
    return;
  }
  hasGenomeList ??= needsGenomeList;
  try {
    const made = await igv.createBrowser(place, {
      ...(needsGenomeList ? { genome: reference } : { reference }),
      locus: wanted().get("locus")?.split(" ") ?? shown.locus ?? undefined,
      tracks: structuredClone([...shown.access, ...shown.tracks, ...tracks.map(withToken)]).map(escaped),
      // No requests to others: the list of genomes only for a dataset that needs it, no search of genes.
      loadDefaultGenomes: needsGenomeList,
      search: false,
      queryParametersSupported: false,
      listeners: { locuschange: (frames) => now === turn && moved(frames) },
    });
    if (now !== turn) {
      igv.removeBrowser(made);
      return;
    }
    browser = made;
    // For people at the console.
    globalThis.igvBrowser = browser;
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    place.shadowRoot.adoptedStyleSheets.push(style);
    const absent = await unknown(browser);
    if (now !== turn) return;
    moved(browser.referenceFrameList);
    if (absent.length) {
      fallback = loci();
      tell(`The link names ${absent.join(" and ")}, which this dataset does not have. Shown instead: ${fallback}.`);
    }
  } catch (error) {
    if (now !== turn) return;
    part("igv").replaceChildren();
    tell(`igv.js cannot open this dataset: ${error.message ?? error}.`);
  }
}

// ---- where the person is

let frames = [];

function loci() {
  return frames
    .map(({ chr, start, end }) => (chr === "all" ? "all" : `${chr}:${Math.floor(start) + 1}-${Math.ceil(end)}`))
    .join(" ");
}

// The loci of the address that are on no reference of the genome; igv.js shows its first one then, and says nothing.
async function unknown(igvBrowser) {
  const named = wanted().get("locus")?.split(" ").filter((locus) => locus && locus !== "all") ?? [];
  // Without a position it may be the name of a gene in a track.
  const checked = shown.tracks.some((track) => track.searchable) ? named.filter((locus) => locus.includes(":")) : named;
  const known = await Promise.all(
    checked.map((locus) => igvBrowser.genome.loadChromosome(locus.replace(/:[0-9,]+(-[0-9,]+)?$/, ""))),
  );
  return checked.filter((locus, place) => !known[place]);
}

function moved(present) {
  frames = present ?? [];
  settled();
}

const settled = afterwards(() => {
  if (browser === null) return;
  const shownLoci = loci();
  if (shownLoci !== fallback) {
    // The person has moved on from what was shown in place of the link's.
    if (fallback !== null) tell("");
    fallback = null;
    note({ locus: shownLoci });
  }
  command();
});

// ---- commands

// As htsget says them: from 0, without their ends. None stands for whole files.
function regions() {
  if (browser !== null) {
    return frames
      .filter((frame) => frame.chr !== "all")
      .map(({ chr, start, end }) => ({ referenceName: chr, start: Math.max(0, Math.floor(start)), end: Math.ceil(end) }));
  }
  const text = wanted().get("locus") ?? shown.locus ?? "";
  return [...text.matchAll(/(\S+):([0-9,]+)-([0-9,]+)/g)].map(([, referenceName, ...numbers]) => {
    const [start, end] = numbers.map((number) => Number(number.replaceAll(",", "")));
    return { referenceName, start: start - 1, end };
  });
}

let commands = []; // what is offered
let offered = ""; // the same as text: buttons in use are not replaced by equal ones

function command() {
  const files = chosen().length ? chosen() : shown.files.filter((file) => file.isReadable);
  commands = files.flatMap((file) =>
    // Without an index there are whole files only.
    (file.isIndexed && regions().length ? regions() : [{}]).map((region) => {
      const parameters = new URLSearchParams({ format: file.format, ...region });
      // htslib reads the token from a file.
      const variable = token() ? "HTS_AUTH_LOCATION=token.txt " : "";
      return `${variable}${file.tool} view "${file.ticket}?${parameters}"`;
    }),
  );
  const tracks = JSON.stringify([...shown.tracks, ...chosen().map((file) => file.track)], null, 2);
  const needs = [
    !commands.length && "None of the files can be read at the moment.",
    commands.length && token() && "Put the access token into the file token.txt first.",
    files.some((file) => file.needsReference) &&
      "samtools decodes CRAM with its reference sequence: a FASTA file after -T, or where REF_PATH says.",
  ];
  part("needs").textContent = needs.filter(Boolean).join(" ");
  if (offered === (offered = `${commands}${tracks}`)) return;
  const details = element(
    "details",
    { open: part("commands").querySelector("details")?.open ?? false },
    element("summary", { textContent: "igv.js tracks" }),
    copyable(tracks, "Copy the igv.js tracks"),
  );
  const lines = commands.map((text) => copyable(text, `Copy the ${text.match(/\w+(?= view )/)} command`));
  part("commands").replaceChildren(...lines, ...(tracks === "[]" ? [] : [details]));
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

// The clipboard is there only for pages of https and of this machine; elsewhere the selection is copied.
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

part("datasets").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link === null || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.pushState(null, "", address({ dataset: link.dataset.id, formats: "", locus: "" }));
  show().then(() => part("name").focus({ preventScroll: true }));
  scrollTo(0, 0);
});
part("search").addEventListener(
  "input",
  afterwards(() => {
    note({ search: part("search").value.trim() });
    list();
  }),
);
part("access")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = part("token").value.trim();
  if (given) sessionStorage.setItem(TOKEN, given);
  else sessionStorage.removeItem(TOKEN);
  part("token").value = "";
  list();
  show();
});
addEventListener("popstate", show);
part("search").value = wanted().get("search") ?? "";
list();
show();
