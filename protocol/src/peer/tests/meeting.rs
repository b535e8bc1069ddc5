//! Desks whose nodes meet: one asks the other whatever it wants to know, until it asks no more.

use super::desk::Desk;
use crate::message::{Greeting, Request, Response};
use crate::peer::Input;

/// One node dials another one and asks; `answer` gives the answers. Which requests belonged to the exchange.
pub(super) fn ask_through(
    asker: &mut Desk,
    asked: &mut Desk,
    mut answer: impl FnMut(&mut Desk, Request) -> Response,
) -> Vec<Request> {
    let link = asker.connect(asked.peer.node().key(), true);
    let (call, _, _) = asker.greeted.pop().expect("a greeting");
    let welcome = Response::Welcome { record: asked.peer.record().clone(), wall: asked.now.wall };
    asker.handle(Input::Answer { call, response: Some(Box::new(welcome)) });
    let mut requests = Vec::new();
    loop {
        asker.settle();
        let calls = std::mem::take(&mut asker.called);
        if calls.is_empty() {
            break;
        }
        for (call, on, request) in calls {
            // Nobody is at the end of the links of other stories.
            let response = (on == link).then(|| Box::new(answer(asked, request.clone())));
            asker.handle(Input::Answer { call, response });
            if is_exchange(&request) {
                requests.push(request);
            }
        }
    }
    asker.handle(Input::Disconnected(link));
    requests
}

/// One node meets another one and asks. Which requests belonged to the exchange.
pub(super) fn meet(asker: &mut Desk, asked: &mut Desk) -> Vec<Request> {
    let greeting = Greeting::Node(asker.peer.record().clone());
    let link = asked.connect(asker.peer.node().key(), false);
    let lane = asked.send_greeting(link, greeting);
    asked.settle();
    assert!(matches!(asked.reply(lane), Some((Response::Welcome { .. }, _))));
    let requests = ask_through(asker, asked, |asked, request| asked.ask(link, request));
    asked.handle(Input::Disconnected(link));
    requests
}

fn is_exchange(request: &Request) -> bool {
    matches!(
        request,
        Request::Vaults
            | Request::Holdings(_)
            | Request::Namings(_)
            | Request::Logs(_)
            | Request::Entries { .. }
            | Request::Forks { .. }
    )
}
