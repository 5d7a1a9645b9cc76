// Keeps the page as it is: a snapshot, then every event, over /ws; comes back where it stopped. Without it the page stands as the server wrote it.
"use strict";
(() => {
  const given = JSON.parse(document.getElementById("state").textContent);
  const { texts: t, shapes, signs, lang } = given;
  const SILENCE_MS = 45000; // the server says something every 20 s
  const services = new Map(), incidents = new Map(), maintenances = new Map();
  let offset = null, asOf = given.as_of, stale = given.stale, socket = null, attempt = 0, watchdog = 0;

  const at = (text) => new Date(text);
  const clock = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "medium" });
  const make = (tag, className, ...children) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };
  const moment = (text) => {
    const element = make("time", "", clock.format(at(text)));
    element.dateTime = text;
    return element;
  };
  const nameOf = (one) => (lang === "ko" && one.display_name_ko) || one.display_name;

  function load(data) {
    services.clear();
    incidents.clear();
    for (const one of data.services) services.set(one.id, one);
    for (const one of data.incidents) incidents.set(one.id, one);
    maintenances.clear();
    for (const one of data.maintenances) maintenances.set(one.id, one);
  }

  function apply(event) {
    const { service, status, incident, maintenance } = event.data;
    if (event.type.startsWith("service.status_changed.")) {
      const one = services.get(status.service_id);
      const { degraded, flapping, because_of } = status;
      const news = { status: status.status, status_since: status.since, status_version: status.version, degraded, flapping, because_of, maintenance: status.maintenance };
      if (one && status.version > one.status_version) Object.assign(one, news);
    } else if (event.type.startsWith("service.removed.")) {
      const one = services.get(service.id);
      if (one && service.version >= one.version) services.delete(service.id);
    } else if (service) {
      const one = services.get(service.id);
      if (!one) services.set(service.id, { ...service, status: service.is_active ? "nd" : "e", status_since: null, status_version: 0 });
      else if (service.version > one.version) Object.assign(one, service);
    } else if (maintenance) {
      const one = maintenances.get(maintenance.id);
      if (!one || maintenance.version > one.version) maintenances.set(maintenance.id, maintenance);
    } else if (incident) {
      const one = incidents.get(incident.id);
      const entries = new Map([...(one ? one.updates : []), ...incident.updates].map((entry) => [entry.id, entry]));
      const newer = one && one.version >= incident.version ? one : incident;
      incidents.set(incident.id, { ...newer, updates: [...entries.values()].sort((a, b) => at(a.created_at) - at(b.created_at)) });
    }
  }

  function headline() {
    const known = [...services.values()].filter((one) => one.status !== "e");
    if (!known.length) return "nothing";
    const unannounced = known.filter((one) => !one.maintenance);
    if (unannounced.length < known.length && unannounced.every((one) => one.status === "o")) return "maintenance";
    const seen = new Set(unannounced.map((one) => one.status));
    if (seen.has("mo")) return "outage";
    if (seen.has("po")) return unannounced.every((one) => one.status !== "po" || one.degraded) ? "impaired" : "degraded";
    if (seen.has("nd")) return seen.size === 1 ? "unknown" : "partly_unknown";
    return "operational";
  }

  function serviceRow(one) {
    const shape = make("span", "shape", shapes[one.status]);
    shape.ariaHidden = "true";
    const row = make("li", "", make("span", "name", nameOf(one)), make("span", `state ${one.status}`, shape, " ", t[one.degraded ? "status.degraded" : `status.${one.status}`]));
    row.dataset.id = one.id;
    if (one.maintenance) row.append(" ", make("span", "tag", t.in_maintenance));
    if (one.flapping) row.append(" ", make("span", "tag", t.flapping));
    const cause = services.get(one.because_of);
    if (cause && cause.status === "mo") row.append(" ", make("span", "cause", t.because_of.replace("{name}", () => nameOf(cause))));
    if (one.status_since) row.append(make("span", "since", t.since, " ", moment(one.status_since)));
    return row;
  }

  function incidentCard(one) {
    const facts = make("p", "facts", t[`incident.${one.status}`], " · ", `${t.severity}: ${t[`severity.${one.severity}`]}`, " · ", moment(one.started_at));
    if (one.duration_minutes !== null) facts.append(" · ", `${t.lasted}: ${one.duration_minutes ? `${one.duration_minutes} ${t.minutes}` : t.under_a_minute}`);
    const names = one.affected_services.map((id) => (services.has(id) ? nameOf(services.get(id)) : id)).join(", ");
    const card = make("article", "incident", make("h3", "", one.title), facts, make("p", "facts", `${t.affects}: ${names}`));
    card.dataset.id = one.id;
    if (one.impact_description) card.append(make("p", "", one.impact_description));
    if (one.updates.length) {
      const timeline = make("ol", "timeline", ...[...one.updates].reverse().map((entry) =>
        make("li", "", make("p", "facts", make("strong", "", t[`incident.${entry.status}`]), " · ", moment(entry.created_at)), make("p", "message", entry.message))));
      timeline.ariaLabel = t.timeline;
      card.append(timeline);
    }
    return card;
  }

  function plannedCard(one) {
    const facts = make("p", "facts", make("strong", "", t[`maintenance.${one.status}`]), " · ", moment(one.starts_at), " – ", moment(one.ends_at));
    const names = one.services.map((id) => (services.has(id) ? nameOf(services.get(id)) : id)).join(", ");
    const card = make("article", "incident planned", make("h3", "", one.title), facts, make("p", "facts", `${t.affects}: ${names}`));
    card.dataset.id = one.id;
    if (one.description) card.append(make("p", "message", one.description));
    return card;
  }

  function fill(id, cards, nothing) {
    document.getElementById(id).replaceChildren(...(cards.length ? cards : [make("p", "none", nothing)]));
  }

  function draw() {
    const key = headline();
    const head = document.getElementById("headline");
    head.className = `headline ${key}`;
    head.querySelector(".sign").textContent = signs[key];
    const sentence = document.getElementById("sentence");
    if (sentence.textContent !== t[`headline.${key}`]) sentence.textContent = t[`headline.${key}`];
    const rows = [...services.values()].sort((a, b) => a.display_name.localeCompare(b.display_name)).map(serviceRow);
    document.getElementById("list").replaceChildren(...rows);
    const ahead = [...maintenances.values()].filter((one) => one.status === "scheduled" || one.status === "in_progress");
    document.getElementById("maintenance").hidden = !ahead.length;
    document.getElementById("planned").replaceChildren(...ahead.sort((a, b) => at(a.starts_at) - at(b.starts_at)).map(plannedCard));
    const newest = [...incidents.values()].sort((a, b) => at(b.started_at) - at(a.started_at));
    fill("open", newest.filter((one) => one.status !== "resolved").map(incidentCard), t.no_open_incidents);
    fill("recent", newest.filter((one) => one.status === "resolved").slice(0, 20).map(incidentCard), t.no_recent_incidents);
  }

  // How fresh: live, or since when not. Never silent about it.
  function fresh(kind) {
    const line = document.getElementById("freshness");
    line.classList.toggle("lost", kind === "offline" || kind === "stale");
    const text = kind === "offline" || kind === "stale" ? [t[kind], " ", moment(asOf)] : [t[kind]];
    line.replaceChildren(...text);
    line.dataset.kind = kind;
  }

  function take(frame) {
    if (frame.type === "snapshot") {
      load(frame.data);
      offset = frame.offset;
      stale = frame.stale;
    } else if (frame.type === "event") {
      if (offset !== null && frame.offset <= offset) return;
      apply(frame.event);
      offset = frame.offset;
    } else if (frame.type === "stale") {
      stale = true;
    } else if (frame.type === "live") {
      stale = false;
    }
    if (frame.as_of) asOf = frame.as_of;
    else if (!stale) asOf = new Date().toISOString();
    if (frame.type === "snapshot" || frame.type === "event") draw();
    if (frame.type !== "event") fresh(stale ? "stale" : "live");
  }

  function alive() {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => socket && socket.close(), SILENCE_MS);
  }

  function connect() {
    const url = new URL("/ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (offset !== null) url.searchParams.set("since", offset);
    socket = new WebSocket(url);
    socket.onopen = () => {
      attempt = 0;
      alive(); // whether it is live, the server says
    };
    socket.onmessage = (message) => {
      alive();
      take(JSON.parse(message.data));
    };
    socket.onclose = () => {
      clearTimeout(watchdog);
      fresh("offline");
      const most = Math.min(30000, 500 * 2 ** attempt++);
      setTimeout(connect, most / 2 + Math.random() * (most / 2));
    };
  }

  for (const element of document.querySelectorAll("time")) element.textContent = clock.format(at(element.dateTime));
  connect();
})();
