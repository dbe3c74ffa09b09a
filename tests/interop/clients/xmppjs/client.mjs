// Obeys the suite's commands (see client.py) with xmpp.js, over Node's tls module.
import dns from "node:dns";
import readline from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// xmpp.js takes the TLS name from the address it connects to, and the domains of the suite are
// in no DNS: every name is this machine.
dns.lookup = (hostname, options, callback) => {
  const done = typeof options === "function" ? options : callback;
  const address = "127.0.0.1";
  if (options?.all) done(null, [{ address, family: 4 }]);
  else done(null, address, 4);
};

// The packages are installed outside of the source tree: argument 1 is the folder.
const require = createRequire(pathToFileURL(`${process.argv[2]}/`));
const { client, xml } = await import(pathToFileURL(require.resolve("@xmpp/client")));

const STEP_MS = 25_000;
const ROSTER = "jabber:iq:roster";
const sessions = new Map();
const emit = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`time-out: ${what}`)), STEP_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const conditionOf = (error) => error.condition ?? String(error);

const contactOf = (item) => ({
  jid: item.attrs.jid,
  name: item.attrs.name ?? null,
  subscription: item.attrs.subscription ?? null,
  ask: item.attrs.ask ?? null,
  groups: item.getChildren("group").map((group) => group.getText()),
});

function delayOf(stanza) {
  const delay = stanza.getChild("delay", "urn:xmpp:delay");
  return delay ? { from: delay.attrs.from, stamp: delay.attrs.stamp } : null;
}

// The event that a stanza is, or null.
function eventOf(stanza) {
  const { from, type } = stanza.attrs;
  const error = type === "error" ? stanza.getChild("error") : undefined;
  const condition = error?.getChildElements()[0]?.name ?? null;
  if (stanza.is("message") && (error || stanza.getChild("body"))) {
    const body = stanza.getChildText("body");
    const delay = delayOf(stanza);
    return { event: "message", from, type: type ?? "normal", body, condition, delay };
  }
  if (stanza.is("presence")) {
    return {
      event: "presence",
      from,
      type: type ?? "available",
      show: stanza.getChildText("show"),
      status: stanza.getChildText("status"),
      priority: Number(stanza.getChildText("priority") ?? 0),
      condition,
    };
  }
  const query = type === "set" ? stanza.getChild("query", ROSTER) : undefined;
  const item = query?.getChild("item");
  return item ? { event: "push", ...contactOf(item) } : null;
}

async function connect(command) {
  const [username, domain] = command.jid.split("@");
  const scheme = command.tls === "direct" ? "xmpps" : "xmpp";
  let used = null;
  const xmpp = client({
    service: `${scheme}://${domain}:${command.port}`,
    domain,
    resource: command.resource,
    credentials: async (authenticate, mechanisms) => {
      used = mechanisms.find((name) => name.startsWith("SCRAM-")) ?? mechanisms[0];
      await authenticate({ username, password: command.password }, used);
    },
  });
  xmpp.reconnect.stop();
  // Two seconds for each step of a login are too few on a busy machine; what is late then crashes it.
  xmpp.timeout = STEP_MS;
  const failed = new Promise((_, reject) => xmpp.on("error", reject));
  // After the login a late error is an event, not an unhandled rejection.
  failed.catch(() => {});
  let online = false;
  xmpp.on("disconnect", () => {
    if (online) emit({ event: "closed", session: command.session });
  });
  // Both before the login: messages and presence follow the initial presence at once.
  xmpp.on("stanza", (stanza) => {
    const event = eventOf(stanza);
    if (event) emit({ session: command.session, ...event });
  });
  xmpp.iqCallee.set(ROSTER, "query", () => true);
  let jid;
  try {
    jid = await within(Promise.race([xmpp.start(), failed]), "login");
  } catch (error) {
    xmpp.stop().catch(() => {});
    throw error;
  }
  online = true;
  let roster = "result";
  let contacts = null;
  try {
    const query = await xmpp.iqCaller.get(xml("query", { xmlns: ROSTER }), undefined, STEP_MS);
    contacts = query.getChildren("item").map(contactOf);
  } catch (error) {
    roster = conditionOf(error);
  }
  await xmpp.send(xml("presence"));
  sessions.set(command.session, xmpp);
  return {
    jid: jid.toString(),
    roster,
    contacts,
    mechanism: used,
    tls_version: xmpp.socket.socket?.getProtocol?.() ?? xmpp.socket.getProtocol?.(),
  };
}

const operations = {
  connect,
  async send({ session, to, body }) {
    await sessions.get(session).send(xml("message", { to, type: "chat" }, xml("body", {}, body)));
    return {};
  },
  async presence({ session, show, status, priority }) {
    const children = Object.entries({ show, status, priority })
      .filter(([, value]) => value !== null)
      .map(([name, value]) => xml(name, {}, String(value)));
    await sessions.get(session).send(xml("presence", {}, ...children));
    return {};
  },
  async subscription({ session, to, type }) {
    await sessions.get(session).send(xml("presence", { to, type }));
    return {};
  },
  async contact({ session, jid, name, groups }) {
    const children = groups.map((group) => xml("group", {}, group));
    const query = xml("query", ROSTER, xml("item", { jid, name }, ...children));
    await sessions.get(session).iqCaller.set(query, undefined, STEP_MS);
    return {};
  },
  async remove({ session, jid }) {
    const query = xml("query", ROSTER, xml("item", { jid, subscription: "remove" }));
    await sessions.get(session).iqCaller.set(query, undefined, STEP_MS);
    return {};
  },
  async ping({ session, to }) {
    await sessions.get(session).iqCaller.get(xml("ping", "urn:xmpp:ping"), to, STEP_MS);
    return {};
  },
  async disco({ session, to }) {
    const query = await sessions
      .get(session)
      .iqCaller.get(xml("query", "http://jabber.org/protocol/disco#info"), to, STEP_MS);
    return {
      identities: query.getChildren("identity").map(({ attrs }) => [attrs.category, attrs.type]),
      features: query.getChildren("feature").map(({ attrs }) => attrs.var),
    };
  },
  async version({ session, to }) {
    const query = await sessions
      .get(session)
      .iqCaller.get(xml("query", "jabber:iq:version"), to, STEP_MS);
    return { name: query.getChildText("name") };
  },
  async unknown({ session, to }) {
    try {
      await sessions
        .get(session)
        .iqCaller.get(xml("query", "urn:example:no-such-thing"), to, STEP_MS);
    } catch (error) {
      return { condition: conditionOf(error) };
    }
    throw new Error("the unknown IQ was answered with a result");
  },
  // Ends the connection, and says nothing before.
  async drop({ session }) {
    const xmpp = sessions.get(session);
    sessions.delete(session);
    (xmpp.socket.socket ?? xmpp.socket).destroy();
    return {};
  },
  async close({ session }) {
    const xmpp = sessions.get(session);
    sessions.delete(session);
    await within(xmpp.stop(), "close");
    return {};
  },
};

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  operations[command.op](command).then(
    (value) => emit({ ref: command.ref, value }),
    (error) =>
      emit({ ref: command.ref, error: String(error), condition: error.condition ?? null }),
  );
});
lines.on("close", () => process.exit(0));
