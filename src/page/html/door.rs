//! Where people log in.

use maud::html;

use super::{Frame, whole};

/// The form; `problem` is why the last attempt came to nothing.
#[must_use]
pub fn login(base: &str, problem: Option<&str>) -> String {
    let frame = Frame { base, title: "Log in", here: "", live: None, session: false, entries: &[] };
    whole(
        &frame,
        &html! {
            h1 { "Log in" }
            @if let Some(problem) = problem { p class="notice bad" role="alert" { span aria-hidden="true" { "✕ " } (problem) } }
            form class="login" method="post" action={ (base) "/login" } {
                label for="token" { "Token" }
                input id="token" name="token" type="password" autocomplete="current-password" required autofocus;
                p { "It is in the file that " code { "token_file" } " in " code { "[page]" } " of windlass.toml names." }
                button type="submit" { "Log in" }
            }
        },
    )
}
