//! Obeys the suite's commands (see client.py) with tokio-xmpp, over rustls.
//!
//! On TLS 1.3 this library binds SCRAM to the connection by `tls-exporter` (RFC 9266). Its trusted
//! certificates come from the file in `SSL_CERT_FILE`.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio_xmpp::connect::{DirectTlsServerConnector, DnsConfig, StartTlsServerConnector};
use tokio_xmpp::jid::Jid;
use tokio_xmpp::minidom::Element;
use tokio_xmpp::parsers::message::{Lang, Message};
use tokio_xmpp::parsers::presence::Presence;
use tokio_xmpp::xmlstream::Timeouts;
use tokio_xmpp::{Client, Event, IqRequest, IqResponse, Stanza};

type Outcome = Result<Value, Box<dyn Error>>;

const STEP: Duration = Duration::from_secs(15);
const DISCO: &str = "http://jabber.org/protocol/disco#info";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "there is a crypto provider already")?;
    let mut sessions: HashMap<String, mpsc::UnboundedSender<Value>> = HashMap::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command: Value = serde_json::from_str(&line)?;
        let label = text(&command, "session").to_owned();
        if text(&command, "op") == "connect" {
            let (sender, receiver) = mpsc::unbounded_channel();
            sessions.insert(label, sender);
            tokio::spawn(session(command, receiver));
        } else if let Some(sender) = sessions.get(&label) {
            // A session that has ended answers nothing: the suite's time-out tells.
            let _ = sender.send(command);
        }
    }
    Ok(())
}

fn text<'a>(command: &'a Value, key: &str) -> &'a str {
    command[key].as_str().unwrap_or_default()
}

fn answer(command: &Value, outcome: Outcome) {
    match outcome {
        Ok(value) => println!("{}", json!({"ref": command["ref"], "value": value})),
        Err(error) => println!(
            "{}",
            json!({"ref": command["ref"], "error": error.to_string()})
        ),
    }
}

/// One login, from its `connect` command to `close`.
async fn session(connect: Value, mut commands: mpsc::UnboundedReceiver<Value>) {
    let mut client = match start(&connect).await {
        Ok((client, facts)) => {
            answer(&connect, Ok(facts));
            client
        }
        Err(error) => return answer(&connect, Err(error)),
    };
    loop {
        tokio::select! {
            event = client.next() => match event {
                Some(Event::Stanza(Stanza::Message(message))) => tell(&connect, &message),
                Some(_) => {}
                None => {
                    let closed = json!({"event": "closed", "session": connect["session"]});
                    return println!("{closed}");
                }
            },
            command = commands.recv() => match command {
                Some(command) if text(&command, "op") == "close" => {
                    let ended = client.send_end().await;
                    return answer(&command, ended.map(|()| json!({})).map_err(Into::into));
                }
                Some(command) => {
                    let outcome = tokio::time::timeout(STEP, obey(&mut client, &command)).await;
                    answer(&command, outcome.unwrap_or_else(|late| Err(late.into())));
                }
                None => return,
            },
        }
    }
}

async fn start(command: &Value) -> Result<(Client, Value), Box<dyn Error>> {
    let jid = Jid::new(&format!(
        "{}/{}",
        text(command, "jid"),
        text(command, "resource")
    ))?;
    let address = DnsConfig::addr(&format!("{}:{}", text(command, "host"), command["port"]));
    let password = text(command, "password");
    let timeouts = Timeouts::default();
    let mut client = if text(command, "tls") == "direct" {
        Client::new_with_connector(jid, password, DirectTlsServerConnector(address), timeouts)
    } else {
        Client::new_with_connector(jid, password, StartTlsServerConnector(address), timeouts)
    };
    // A refused login is tried again for ever by the library, so the time-out is its only sign.
    let event = tokio::time::timeout(STEP, client.next()).await?;
    let Some(Event::Online { bound_jid, .. }) = event else {
        return Err(format!("not online: {event:?}").into());
    };
    let roster = request(&mut client, None, "query", "jabber:iq:roster").await?;
    let roster = match roster {
        IqResponse::Result(_) => "result".to_owned(),
        IqResponse::Error(error) => condition(&error.defined_condition),
    };
    client.send_stanza(Presence::available().into()).await?;
    Ok((
        client,
        json!({"jid": bound_jid.to_string(), "roster": roster}),
    ))
}

fn tell(connect: &Value, message: &Message) {
    let body = message.get_best_body(vec![""]).map(|(_, body)| body);
    println!(
        "{}",
        json!({
            "event": "message",
            "session": connect["session"],
            "from": message.from.as_ref().map(ToString::to_string),
            "type": format!("{:?}", message.type_).to_lowercase(),
            "body": body,
        })
    );
}

async fn obey(client: &mut Client, command: &Value) -> Outcome {
    let to = Jid::new(text(command, "to"))?;
    match text(command, "op") {
        "send" => {
            let message =
                Message::chat(to).with_body(Lang::new(), text(command, "body").to_owned());
            client.send_stanza(message.into()).await?;
            Ok(json!({}))
        }
        "ping" => {
            result(request(client, Some(to), "ping", "urn:xmpp:ping").await?).map(|_| json!({}))
        }
        "disco" => {
            let query = result(request(client, Some(to), "query", DISCO).await?)?
                .ok_or("the result is empty")?;
            let children = |name| query.children().filter(move |child| child.is(name, DISCO));
            Ok(json!({
                "identities": children("identity")
                    .map(|child| [child.attr("category"), child.attr("type")])
                    .collect::<Vec<_>>(),
                "features": children("feature").map(|child| child.attr("var")).collect::<Vec<_>>(),
            }))
        }
        "version" => {
            let query = result(request(client, Some(to), "query", "jabber:iq:version").await?)?
                .ok_or("the result is empty")?;
            let name = query
                .get_child("name", "jabber:iq:version")
                .map(Element::text);
            Ok(json!({ "name": name }))
        }
        "unknown" => match request(client, Some(to), "query", "urn:example:no-such-thing").await? {
            IqResponse::Error(error) => {
                Ok(json!({"condition": condition(&error.defined_condition)}))
            }
            IqResponse::Result(_) => Err("the unknown IQ was answered with a result".into()),
        },
        other => Err(format!("no operation {other}").into()),
    }
}

async fn request(
    client: &mut Client,
    to: Option<Jid>,
    name: &str,
    ns: &str,
) -> Result<IqResponse, Box<dyn Error>> {
    let payload = Element::builder(name, ns).build();
    let token = client.send_iq(to, IqRequest::Get(payload)).await;
    Ok(tokio::time::timeout(STEP, token).await??)
}

fn result(response: IqResponse) -> Result<Option<Element>, Box<dyn Error>> {
    match response {
        IqResponse::Result(payload) => Ok(payload),
        IqResponse::Error(error) => Err(condition(&error.defined_condition).into()),
    }
}

/// The name of a stanza error condition as it stands on the wire.
fn condition(condition: &impl std::fmt::Debug) -> String {
    let mut name = String::new();
    for letter in format!("{condition:?}")
        .chars()
        .take_while(char::is_ascii_alphabetic)
    {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}
