use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Containerfile {
    Containerfile::read(text, &BTreeMap::new())
}

fn with(text: &str, args: &[(&str, &str)]) -> Containerfile {
    Containerfile::read(text, &args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// The images of a file.
fn images(text: &str) -> Vec<String> {
    read(text).images
}

/// What each reference is.
fn kinds(text: &str) -> Vec<(Where, Kind, String)> {
    read(text).refs.into_iter().map(|found| (found.place, found.kind, found.value)).collect()
}

#[test]
fn images_come_in_full() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for (written, full) in [
        ("r.example.com/g/base", "r.example.com/g/base:latest"),
        ("r.example.com:5050/g/sub/base:1", "r.example.com:5050/g/sub/base:1"),
        ("localhost/base", "localhost/base:latest"),
        ("ruby:3", "docker.io/library/ruby:3"),
        ("group/base", "docker.io/group/base:latest"),
        (&format!("r.example.com/g/base:1@{digest}"), &format!("r.example.com/g/base:1@{digest}")),
        (&format!("r.example.com/g/base@{digest}"), &format!("r.example.com/g/base@{digest}")),
    ] {
        assert_eq!(images(&format!("FROM {written}\n")), [full]);
        assert_eq!(images(&format!("from --platform=$BUILDPLATFORM {written} as X")), [full]);
    }
    let upper = read("FROM r.example.com/G/Base:1");
    assert_eq!((upper.images.len(), upper.refs[0].kind), (0, Kind::Invalid));
}

#[test]
fn only_arguments_before_the_first_from_count_and_have_all_modifiers() {
    let cases = [
        ("${V}", "3.2.1"),
        ("$V", "3.2.1"),
        ("$V-x", "3.2.1-x"),
        ("${V:-1}", "3.2.1"),
        ("${EMPTY:-1}", "1"),
        ("${EMPTY-1}x", "x"),
        ("${UNSET-1}", "1"),
        ("${V:+yes}", "yes"),
        ("${EMPTY:+yes}no", "no"),
        ("${EMPTY+yes}", "yes"),
        ("${V:?needed}", "3.2.1"),
        ("${V%.*}", "3.2"),
        ("${V%%.*}", "3"),
        ("${V#*.}", "2.1"),
        ("${V##*.}", "1"),
        ("${V/./_}", "3_2.1"),
        ("${V//./_}", "3_2_1"),
        ("${V//[.]/_}", "3.2.1"),
        ("${V/?/x}", "x.2.1"),
        ("${V#'3'}", ".2.1"),
        ("${UNSET:-${OTHER:-deep}}", "deep"),
        ("\"${V}\"", "3.2.1"),
        ("a\\$", "a$"),
    ];
    for (tag, expected) in cases {
        let found = read(&format!("ARG V=3.2.1 EMPTY=\nARG UNSET\nFROM r.example.com/g/b:x{tag}\nARG V=9\n"));
        assert_eq!(found.refs[0].value, format!("r.example.com/g/b:x{expected}"), "{tag}");
    }
    let later = read("FROM a\nARG V=1\nFROM r.example.com/g/b:${V:-2}\n");
    assert_eq!(later.refs[1].image.as_deref(), Some("r.example.com/g/b:2"));
    assert_eq!(later.refs[1].unset, ["V"]);
    let nested = read("ARG R=r.example.com\nARG B=${R}/g/b Q='$R'\nFROM $B:$TAG_x\nFROM $Q");
    assert_eq!(nested.global_args["Q"], "$R");
    assert_eq!((nested.refs[0].kind, &nested.refs[0].unset[..]), (Kind::Unresolved, &["TAG_x".to_owned()][..]));
    assert_eq!(nested.refs[1].kind, Kind::Invalid);
}

#[test]
fn the_build_gives_values_to_arguments() {
    let text = "ARG CI_REGISTRY\nARG TAG=1\nFROM ${CI_REGISTRY}/g/b:${TAG}";
    assert_eq!(read(text).refs[0].kind, Kind::Unresolved);
    assert_eq!(with(text, &[("CI_REGISTRY", "r.example.com"), ("TAG", "2")]).images, ["r.example.com/g/b:2"]);
    // Only what is declared gets a value, as in a build.
    assert_eq!(with("FROM $BASE", &[("BASE", "x")]).refs[0].kind, Kind::Unresolved);
    let platform = read("FROM --platform=$TARGETPLATFORM r.example.com/g/b:$TARGETOS");
    assert_eq!(platform.images, ["r.example.com/g/b:linux"]);
}

#[test]
fn stages_are_no_images() {
    let found = kinds(
        "FROM base AS Build\nFROM build\nCOPY --from=BUILD a b\nCOPY --chown=1:1 --from=0 a b\nCOPY --from=last a b\n\
         COPY --from=$X a b\nCOPY --from=r.example.com/t:1 a b\nRUN --mount=type=cache,target=/x --mount=type=bind,from=r.example.com/m,target=/a true\n\
         RUN --mount=from=Last,target=/a true\nFROM scratch AS last\nFROM lAst\nCOPY --from=9 a b\n",
    );
    use Kind::{Image, Invalid, Scratch, Stage, Unresolved};
    let expected = [
        (Where::From, Image, "base"),
        (Where::From, Stage, "build"),
        (Where::Copy, Stage, "BUILD"),
        (Where::Copy, Stage, "0"),
        (Where::Copy, Stage, "last"),
        (Where::Copy, Unresolved, "$X"),
        (Where::Copy, Image, "r.example.com/t:1"),
        (Where::Mount, Image, "r.example.com/m"),
        (Where::Mount, Stage, "Last"),
        (Where::From, Scratch, "scratch"),
        (Where::From, Invalid, "lAst"),
        (Where::Copy, Image, "9"),
    ];
    assert_eq!(found, expected.map(|(place, kind, value)| (place, kind, value.to_owned())));
    // One that comes later is not meant.
    assert_eq!(images("FROM later\nFROM x AS later"), ["docker.io/library/later:latest", "docker.io/library/x:latest"]);
}

#[test]
fn lines_are_joined_and_documents_left_out() {
    assert_eq!(images("FROM \\\n# a comment\n\n   r.example.com/b:1 \\  \n  AS x\n"), ["r.example.com/b:1"]);
    assert_eq!(images("\u{feff}ARG V=1\r\nFROM r.example.com/b:${V}\r\n"), ["r.example.com/b:1"]);
    assert_eq!(
        images("# syntax=docker/dockerfile:1\n# escape=`\nFROM r.example.com/b:1 `\n AS x\nRUN dir C:\\\nFROM c"),
        ["docker.io/library/c:latest", "r.example.com/b:1"]
    );
    // A directive behind a comment is one too.
    assert_eq!(images("# comment\n# escape=`\nFROM r.example.com/b:1 \\\n AS x\n"), ["r.example.com/b:1"]);
    let documents = "FROM a\nRUN <<EOF cat <<-'X' && true\nFROM no\nEOF\n\tFROM no\n\tX\nCOPY <<A <<\"B\" /d/\nFROM no\nA\nFROM no\nB\n\
                     RUN cat <<<word\nONBUILD COPY --from=r.example.com/t <<Z /x\nFROM no\nZ\nFROM b\n";
    assert_eq!(images(documents), ["docker.io/library/a:latest", "docker.io/library/b:latest"]);
    assert_eq!(read(documents).onbuild, ["COPY --from=r.example.com/t <<Z /x"]);
    // One without an end takes nothing with it.
    assert_eq!(images("FROM a\nRUN cat <<EOF\nFROM b\n").len(), 2);
}

#[test]
fn a_line_that_is_wrong_loses_only_itself() {
    let found = read(
        "ENV X=1\nFROM a AS\nNONSENSE {\nFROM ${X:?a b}\nFROM --after=a b\nFROM \"c\nFROM d AS 1st extra\nFROM e\n",
    );
    assert_eq!(found.images, ["a", "b", "d", "e"].map(|name| format!("docker.io/library/{name}:latest")));
    assert_eq!(found.error.as_deref(), Some("line 2: FROM takes an image, and maybe AS and a name"));
    assert_eq!(found.refs.iter().filter(|found| found.kind == Kind::Unresolved).count(), 2);
    assert_eq!(read("").error.as_deref(), Some("there is no FROM"));
    assert_eq!(read("FROM\n").refs.len(), 0);
}

#[test]
fn expansions_have_bounds() {
    let deep = format!("FROM {}x{}", "${A:-".repeat(1000), "}".repeat(1000));
    assert_eq!(read(&deep).refs[0].kind, Kind::Unresolved);
    let mut text = "ARG A0=xxxxxxxxxxxxxxxx\n".to_owned();
    for number in 1..40 {
        let before = number - 1;
        text.push_str(&format!("ARG A{number}=${{A{before}}}${{A{before}}}\n"));
    }
    let since = std::time::Instant::now();
    assert!(read(&format!("{text}FROM $A39\n")).error.is_some());
    assert!(since.elapsed() < std::time::Duration::from_secs(2));
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "(FROM|ARG|COPY|RUN|ONBUILD|#|\\\\|\n|\r|\\$\\{|\\}|<<E|--from=|--mount=|'|\"|=|:-|%|/| |[a-z0-9A-Z.]|\u{feff}|\\PC){0,80}") {
        let found = read(&text);
        prop_assert!(found.refs.len() <= REFS_MAX);
        for reference in found.refs {
            prop_assert_eq!(reference.kind == Kind::Image, reference.image.is_some());
        }
    }
}
