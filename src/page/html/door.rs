//! Where people log in.

use maud::{DOCTYPE, html};

use super::{Frame, whole};

/// The form; `problem` is why the last attempt came to nothing, `next` where it leads afterwards.
#[must_use]
pub fn login(base: &str, problem: Option<&str>, next: &str) -> String {
    let frame = Frame { base, title: "Log in", here: "", live: None, now: 0, session: false, entries: &[] };
    whole(
        &frame,
        &html! {
            h1 { "Log in" }
            @if let Some(problem) = problem { p class="notice bad" role="alert" { span aria-hidden="true" { "✕ " } (problem) } }
            form class="login" method="post" action={ (base) "/login" } {
                input type="hidden" name="next" value=(next);
                label for="token" { "Token" }
                input id="token" name="token" type="password" autocomplete="current-password" required autofocus;
                p { "It is in the file that " code { "token_file" } " in " code { "[page]" } " of windlass.toml names." }
                button type="submit" { "Log in" }
            }
        },
    )
}

/// For a browser that came from another site, and so has sent no cookie: it goes on from here by itself, and then sends the one that it
/// has.
#[must_use]
pub fn step(place: &str) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content={ "0; url=" (place) };
                title { "Log in · Windlass" }
            }
            body { main { h1 { "Log in" } p { a href=(place) { "Go on" } } } }
        }
    }
    .into_string()
}
