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

const STEP_MS = 15_000;
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
  const failed = new Promise((_, reject) => xmpp.on("error", reject));
  // After the login a late error is an event, not an unhandled rejection.
  failed.catch(() => {});
  let online = false;
  xmpp.on("disconnect", () => {
    if (online) emit({ event: "closed", session: command.session });
  });
  xmpp.on("stanza", (stanza) => {
    if (!stanza.is("message") || !stanza.getChild("body")) return;
    emit({
      event: "message",
      session: command.session,
      from: stanza.attrs.from,
      type: stanza.attrs.type ?? "normal",
      body: stanza.getChildText("body"),
    });
  });
  let jid;
  try {
    jid = await within(Promise.race([xmpp.start(), failed]), "login");
  } catch (error) {
    xmpp.stop().catch(() => {});
    throw error;
  }
  online = true;
  let roster = "result";
  try {
    await xmpp.iqCaller.get(xml("query", { xmlns: "jabber:iq:roster" }), undefined, STEP_MS);
  } catch (error) {
    // The first version has no roster; a client must live with the error.
    roster = conditionOf(error);
  }
  await xmpp.send(xml("presence"));
  sessions.set(command.session, xmpp);
  return {
    jid: jid.toString(),
    roster,
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
    (error) => emit({ ref: command.ref, error: String(error) }),
  );
});
lines.on("close", () => process.exit(0));
