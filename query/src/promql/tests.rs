//! The parser as a user meets it: what texts mean, what is refused and in which words, and that no text harms.

use proptest::prelude::*;

use super::ast::{BinaryOp, DurationExpr, Expr, ExprKind};
use super::pretty::pretty_within;
use super::{ParseOptions, parse, parse_selector, pretty, print, value_type};

mod random;

#[track_caller]
fn parsed(query: &str) -> Expr {
    parse(query, &ParseOptions::default()).unwrap_or_else(|e| panic!("{query}: {e}"))
}

#[track_caller]
fn check(query: &str, printed: &str) {
    assert_eq!(print(&parsed(query)), printed, "{query}");
}

/// What prints as it was written.
#[track_caller]
fn check_same(queries: &[&str]) {
    for query in queries {
        check(query, query);
    }
}

#[track_caller]
fn check_error(query: &str, expected: &str) {
    let error = parse(query, &ParseOptions::default()).expect_err(query);
    assert_eq!(error.to_string(), expected, "{query}");
}

/// Shows how operators bind, with a parenthesis around each.
#[track_caller]
fn check_tree(query: &str, expected: &str) {
    fn show(expr: &Expr) -> String {
        match &expr.kind {
            ExprKind::Binary(b) => format!("({} {} {})", show(&b.lhs), b.op.as_str(), show(&b.rhs)),
            ExprKind::Unary { negative, expr } => format!("({}{})", if *negative { "-" } else { "+" }, show(expr)),
            _ => print(expr),
        }
    }
    assert_eq!(show(&parsed(query)), expected, "{query}");
}

#[test]
fn operators_bind_as_in_prometheus() {
    check_tree("a + b * c", "(a + (b * c))");
    check_tree("a - b - c", "((a - b) - c)");
    check_tree("a ^ b ^ c", "(a ^ (b ^ c))");
    check_tree("-a ^ b", "(-(a ^ b))");
    check_tree("-a * b", "((-a) * b)");
    check_tree("a ^ -b * c", "((a ^ (-b)) * c)");
    check_tree("a ^ -b ^ c", "(a ^ (-(b ^ c)))");
    check_tree("a or b and c unless d", "(a or ((b and c) unless d))");
    check_tree("a and b == c + d", "(a and (b == (c + d)))");
    check_tree("a atan2 b * c", "((a atan2 b) * c)");
    check_tree("a </ 2 > b >/ 1", "(((a </ 2) > b) >/ 1)");
    check_tree("- - a", "(-(-a))");
    check_tree("--1", "1");
    check_tree("-1 ^ 2", "(-(1 ^ 2))");
    check_tree("-a offset 5m", "(-a offset 5m)");
    check_tree("a + b offset 5m", "(a + b offset 5m)");
}

#[test]
fn numbers_follow_go() {
    check("0x1F + 0X_ff", "31 + 255");
    check("1_000.5e1", "10005");
    check("010 + 08 + 0_7", "8 + 8 + 7");
    check(".5 + 5. + 1e-2", "0.5 + 5 + 0.01");
    check("Inf + iNF + nan - -inf", "+Inf + +Inf + NaN - -Inf");
    check("+1 - +1", "1 - 1");
    check("1e21", "1000000000000000000000");
    check("90m + -1w", "1h30m + -1w");
    check("1m60s", "2m");
    check_error(
        "1e400",
        "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range",
    );
    check_error("2.5.", "1:1: parse error: bad number or duration syntax: \"2.5.\"");
    check_error("0deadbeef", "1:1: parse error: bad number or duration syntax: \"0de\"");
    check_error("1__0", "1:1: parse error: bad number or duration syntax: \"1__\"");
    check_error("foo[5s1m]", "1:5: parse error: not a valid duration string: \"5s1m\"");
    check_error("foo[1.5h]", "1:5: parse error: unknown unit \".\" in duration \"1.5h\"");
    check_error("foo[5hs]", "1:5: parse error: unknown unit \"hs\" in duration \"5hs\"");
    check_error("foo[300y]", "1:5: parse error: duration out of range");
}

#[test]
fn strings_are_unquoted_and_quoted_again() {
    check(r#""\a\b\f\n\r\t\v\\\" - \u1234\U00010111☺""#, r#""\a\b\f\n\r\t\v\\\" - ሴ𐄑☺""#);
    check(r"'\'' ", r#""'""#);
    check("`a\\n\"b`", r#""a\\n\"b""#);
    check("\"\u{a0}\u{200b}e\u{301}\u{7f}\"", "\"\\u00a0\\u200be\u{301}\\x7f\"");
    check(r#""\x41\101\xe2\x98\xba""#, r#""AA☺""#);
    check_error(r#""\q""#, "1:1: parse error: unknown escape sequence U+0071 'q'");
    check_error(r#""\xg0""#, "1:1: parse error: illegal character U+0067 'g' in escape sequence");
    check_error(r#""\400""#, "1:1: parse error: escape sequence is an invalid Unicode code point");
    check_error(r#""\ud800""#, "1:1: parse error: escape sequence is an invalid Unicode code point");
    check_error("'a\nb'", "1:1: parse error: unterminated quoted string");
    check_error("1 + `a", "1:5: parse error: unterminated raw string");
}

#[test]
fn selectors() {
    check("foo{b='2', a!=\"1\",}", "foo{a!=\"1\",b=\"2\"}");
    check("{\"foo\", a=~\"x|y\", b!~`z`}", "{__name__=\"foo\",a=~\"x|y\",b!~\"z\"}");
    check("{'foo.bar'}", "{__name__=\"foo.bar\"}");
    check("x{\"a.b\"='1', ''='2', 'a'='3'}", "x{\"\"=\"2\",\"a.b\"=\"1\",a=\"3\"}");
    check("foo # comment { \n { a = '1' # more\n }", "foo{a=\"1\"}");
    check_same(&["foo:bar:sum", ":x", "{__name__=\"\",a=\"b\"}", "foo{sum=\"1\"}"]);
    check_error("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check_error("{a=''}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check_error("{a=~'.*'}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check_error("foo{__name__='bar'}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"");
    check_error("foo{a}", "1:6: parse error: unexpected \"}\" in label matching, expected label matching operator");
    check_error("foo{a=1}", "1:7: parse error: unexpected character inside braces: '1'");
    check_error(
        "foo{a='b' c='d'}",
        "1:11: parse error: unexpected identifier \"c\" in label matching, expected \",\" or \"}\"",
    );
    check_error("foo{,}", "1:5: parse error: unexpected \",\" in label matching, expected identifier or \"}\"");
    check_error("foo{a=>'b'}", "1:7: parse error: unexpected character inside braces: '>'");
    check_error("foo{", "1:5: parse error: unexpected end of input inside braces");
    assert!(parse("{a=~'('}", &ParseOptions::default()).is_err());
}

#[test]
fn keywords_are_names_where_they_can_be() {
    check_same(&[
        "sum",
        "or or or",
        "by + without",
        "offset offset 5m",
        "start @ start()",
        "step[5m]",
        "fill + fill",
        "min_of",
        "sum by (sum, by, on, bool, offset, group_left, atan2, step) (count)",
        "anchored anchored",
        "range[range()]",
    ]);
    check("SUM BY (a) (RATE)", "sum by (a) (RATE)");
    check("a AND B Unless c", "a and B unless c");
    check("a + fill (3) b", "a + fill (3) b");
    check_error("bool", "1:1: parse error: unexpected <bool>");
    check_error("on + a", "1:1: parse error: unexpected <on>");
    check_error("sum by (without) (a)", "1:9: parse error: unexpected <without> in grouping opts, expected label");
}

#[test]
fn ranges_offsets_and_times() {
    check_same(&[
        "foo[5m] offset 1w",
        "foo offset -7m",
        "foo[5m:]",
        "foo[5m:1m] @ end() offset 1h",
        "foo @ -1.500 offset 3s",
        "rate(foo[1d])[1h:30s]",
        "foo[5m] anchored",
        "foo[5m] smoothed @ start() offset 1m",
        "foo smoothed",
    ]);
    check("foo offset 5m @ 10", "foo @ 10.000 offset 5m");
    check("foo[300] offset 0x10", "foo[5m] offset 16s");
    check("foo[ 5m : 1m30s ]", "foo[5m:1m30s]");
    check("foo offset 1m anchored", "foo anchored offset 1m");
    check("foo offset 0s", "foo");
    check("foo @ 1m", "foo @ 60.000");
    check_error("foo offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times");
    check_error("foo @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times");
    check_error("foo offset 1m [5m]", "1:15: parse error: no offset modifiers allowed before range");
    check_error("foo @ 1 [5m]", "1:9: parse error: no @ modifiers allowed before range");
    check_error("(foo)[5m]", "1:6: parse error: ranges only allowed for vector selectors");
    check_error("foo[5m][5m:]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead");
    check_error(
        "(foo) offset 1m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a \
         subquery",
    );
    check_error(
        "1 @ 2",
        "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a \
         subquery",
    );
    check_error("foo @ inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf");
    check_error("foo @ bar", "1:7: parse error: unexpected identifier \"bar\" in @, expected timestamp");
    check_error("foo[0m]", "1:5: parse error: duration must be greater than 0");
    check_error("foo[5m", "1:7: parse error: unclosed left bracket");
    check_error("foo[", "1:5: parse error: unexpected end of input in duration expression");
    check_error(
        "foo[5m 1m]",
        "1:8: parse error: unexpected duration \"1m\" in subquery or range, expected \":\" or \"]\"",
    );
    check_error(
        "foo[]",
        "1:5: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
    );
    check_error(
        "foo offset",
        "1:11: parse error: unexpected end of input in offset, expected number, duration, step(), or range()",
    );
    check_error("foo anchored smoothed", "1:1: parse error: anchored and smoothed modifiers cannot be used together");
    check_error("foo[5m:] smoothed", "1:1: parse error: smoothed modifier is not supported for subqueries");
}

#[test]
fn duration_expressions() {
    check_same(&[
        "foo[2 * 1h]",
        "foo[step() + 5m]",
        "foo[-(5m) + 10m]",
        "foo offset -(5)",
        "foo[min_of(10s, range() ^ 2)]",
        "foo offset -min_of(10s, max_of(step() ^ 2, 2))",
        "foo[(5m):(1m)]",
        "foo[1h:step() * 2]",
        "foo[5m % 3m]",
    ]);
    check("foo offset +(5)", "foo offset (5)");
    check("foo[((5m))]", "foo[(5m)]");
    // Behind `offset` an operator belongs to the expression around it, except behind a parenthesis.
    check_tree("foo offset -2 ^ 2", "(foo offset -2s ^ 2)");
    check_tree("foo offset step() * 2", "(foo offset step() * 2)");
    assert!(matches!(parsed("foo offset step() * 2").kind, ExprKind::Binary(_)));
    assert!(matches!(parsed("foo offset (1m) * 2").kind, ExprKind::VectorSelector(_)));
    assert!(matches!(parsed("foo offset -(1m) * 2").kind, ExprKind::Binary(_)));
    let ExprKind::MatrixSelector { range, .. } = parsed("foo[5m]").kind else { panic!("no range") };
    assert_eq!(range, DurationExpr::Fixed(300_000));
    check_error("foo[5m / 0]", "1:8: parse error: division by zero");
    check_error("foo[5m % 0s]", "1:8: parse error: modulo by zero");
    check_error("foo[bar]", "1:5: parse error: unexpected character in duration expression: 'b'");
}

#[test]
fn aggregations() {
    check("sum(a) by (b, c,)", "sum by (b, c) (a)");
    check("sum by () (a)", "sum(a)");
    check("sum without () (a)", "sum without () (a)");
    check("topk without(b) (3, a)", "topk without (b) (3, a)");
    check("sum by ('foo.bar') (a)", "sum by (\"foo.bar\") (a)");
    check_same(&["limit_ratio(-0.5, a)", "count_values(\"x\", a)", "group(a)"]);
    check_error("sum()", "1:1: parse error: no arguments for aggregate expression provided");
    check_error(
        "sum(a, b)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2",
    );
    check_error(
        "topk(a)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    check_error("topk('3', a)", "1:6: parse error: expected type scalar in aggregation parameter, got string");
    check_error("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar");
    check_error("sum(a b)", "1:7: parse error: unexpected identifier \"b\" in aggregation");
    check_error("sum by b (a)", "1:8: parse error: unexpected identifier \"b\" in grouping opts, expected \"(\"");
    check_error(
        "sum by (b c) (a)",
        "1:11: parse error: unexpected identifier \"c\" in grouping opts, expected \",\" or \")\"",
    );
    check_error("sum by (1) (a)", "1:9: parse error: unexpected number \"1\" in grouping opts, expected label");
    check_error("sum by ('') (a)", "1:9: parse error: invalid label name for grouping: \"\"");
}

#[test]
fn vector_matching() {
    check("a - on() c", "a - on () c");
    check("a - ignoring() c", "a - c");
    check("a - ignoring() group_left c", "a - ignoring () group_left () c");
    check("a == bool on(x) group_right(y) c", "a == bool on (x) group_right (y) c");
    check("a + fill_left(5) fill_right(5) b", "a + fill (5) b");
    check("a + fill_right(1e30) fill_left(-1m) b", "a + fill_left (-60) fill_right (1e+30) b");
    check_error(
        "a + on(x) group_left(x) b",
        "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once",
    );
    check_error("a and on(x) group_left b", "1:1: parse error: no grouping allowed for \"and\" operation");
    check_error("a and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
    check_error("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators");
    check_error("1 == 2", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    check_error("1 + on(x) a", "1:1: parse error: vector matching only allowed between instant vectors");
    check_error("a + group_left b", "1:5: parse error: unexpected <group_left>");
    check_error("a or fill(1) b", "1:1: parse error: filling in missing series not allowed for set operators");
    check_error("'a' + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types");
    check_error("1 + a[5m]", "1:5: parse error: binary expression must contain only scalar and instant vector types");
    let ExprKind::Binary(set) = parsed("a or b").kind else { panic!("not binary") };
    assert!(set.matching.is_some() && set.op == BinaryOp::Or);
    let ExprKind::Binary(scalars) = parsed("1 + on() a").kind else { panic!("not binary") };
    assert!(scalars.matching.is_none());
}

#[test]
fn calls() {
    check_same(&[
        "rate(a[5m])",
        "hour()",
        "hour(a)",
        "round(a, 5)",
        "time()",
        "step() + range()",
        "max_of(1, 2)",
        "info(a)",
        "info(a, {b=\"\"})",
        "label_join(a, \"b\", \",\")",
        "histogram_quantiles(a, \"q\", 0.5, 0.9)",
        "sort_by_label(a, \"b\", \"c\")",
    ]);
    check_error("foo(a)", "1:1: parse error: unknown function with name \"foo\"");
    check_error("RATE(a[5m])", "1:1: parse error: unknown function with name \"RATE\"");
    check_error(
        "rate(a)",
        "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
    );
    check_error(
        "abs(a[5m])",
        "1:5: parse error: expected type instant vector in call to function \"abs\", got range vector",
    );
    check_error("abs()", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0");
    check_error("round()", "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0");
    check_error("round(a, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3");
    check_error("abs(a,)", "1:6: parse error: trailing commas not allowed in function call args");
    check_error("info(a, b)", "1:9: parse error: expected label selectors only, got vector selector instead");
    check_error("info(a, rate(b[5m]))", "1:9: parse error: expected label selectors only");
    check_error(
        "-'a'",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
    );
}

#[test]
fn what_is_no_expression() {
    check_error("", "unknown position: parse error: no expression found in input");
    check_error(" # nothing\n", "1:1: parse error: no expression found in input");
    check_error("1+", "1:3: parse error: unexpected end of input");
    check_error("a\n+ b\n c", "3:2: parse error: unexpected identifier \"c\"");
    check_error("(1))", "1:5: parse error: unexpected right parenthesis ')'");
    check_error("((1)", "1:5: parse error: unclosed left parenthesis");
    check_error("a ! b", "1:3: parse error: unexpected character after '!': ' '");
    check_error("a =~ b", "1:3: parse error: unexpected character after '=': '~'");
    check_error("a ~ b", "1:3: parse error: unexpected character: '~'");
    check_error("ü", "1:1: parse error: unexpected character: 'ü'");
    check_error("*1", "1:1: parse error: unexpected <op:*>");
    check_error("a = b", "1:3: parse error: unexpected \"=\"");
    check_error("1 1234567890123", "1:3: parse error: unexpected number \"1234567890\"...");
}

#[test]
fn experimental_parts_can_be_off() {
    let off = ParseOptions {
        experimental_functions: false,
        duration_expressions: false,
        extended_selectors: false,
        fill_modifiers: false,
        ..ParseOptions::default()
    };
    for query in ["info(a)", "limitk(1, a)", "a[step()]", "a offset (5m)", "a[5m] anchored", "a + fill(1) b", "step()"]
    {
        assert!(parse(query, &off).is_err(), "{query}");
        parsed(query);
    }
    assert!(parse("rate(a[5m] offset -1m)", &off).is_ok());
}

#[test]
fn lone_selectors_may_match_everything() {
    let options = ParseOptions::default();
    assert_eq!(parse_selector("{}", &options).unwrap().len(), 0);
    assert_eq!(parse_selector("up{job=~'a.*'}", &options).unwrap().len(), 2);
    assert!(parse_selector("up offset 5m", &options).is_err());
    assert!(parse_selector("1", &options).is_err());
}

#[test]
fn long_texts_break_into_lines() {
    #[track_caller]
    fn check_lines(query: &str, expected: &[&str]) {
        assert_eq!(pretty_within(&parsed(query), 10), expected.join("\n"));
    }
    check_lines("a+b", &["a + b"]);
    check_lines("foo_1 + ignoring(x) foo_2 + foo_3", &["    foo_1", "  + ignoring (x)", "    foo_2", "+", "  foo_3"]);
    check_lines("topk(10, foo_bar_baz)", &["topk(", "  10,", "  foo_bar_baz", ")"]);
    check_lines("sum by(a) (rate(foo[1m]))", &["sum by (a) (", "  rate(", "    foo[1m]", "  )", ")"]);
    check_lines("-rate(foo[1m])", &["-rate(", "  foo[1m]", ")"]);
    check_lines("((_foo_long_))", &["(", "  (", "    _foo_long_", "  )", ")"]);
    check_lines("rate(foo[1m])[5m:] offset 1m", &["rate(", "  foo[1m]", ")[5m:] offset 1m"]);
    assert_eq!(pretty(&parsed("sum  (a)")), "sum(a)");
}

#[test]
fn depth_is_bounded_and_said() {
    let options = ParseOptions::default();
    let max = options.depth_max as usize;
    let nests: [(&str, &str, &str); 6] = [
        ("(", "1", ")"),
        ("-", "a", ""),
        ("abs(", "a", ")"),
        ("sum(", "a", ")"),
        ("a ^ ", "a", ""),
        ("", "a", " or a"),
    ];
    for (open, core, close) in nests {
        let nested = |depth: usize| format!("{}{core}{}", open.repeat(depth), close.repeat(depth));
        let expr = parse(&nested(max - 1), &options).unwrap_or_else(|e| panic!("{open}: {e}"));
        assert_eq!(print(&parsed(&print(&expr))), print(&expr));
        assert!(pretty(&expr).len() >= print(&expr).len());
        value_type(&expr);
        for depth in [max, 100_000] {
            let error = parse(&nested(depth), &options).expect_err(open).to_string();
            assert!(error.contains("nested too deeply"), "{error}");
        }
    }
    for (open, core, close) in [("(", "1", ")"), ("-", "1", ""), ("1 ^ ", "1", ""), ("", "1", " + 1")] {
        let query = format!("a[{}{core}{}]", open.repeat(100_000), close.repeat(100_000));
        let error = parse(&query, &options).expect_err(open).to_string();
        assert!(error.contains("nested too deeply"), "{error}");
    }
}

/// Heights must add up: a text of parentheses, each with as long a row of operators as was allowed there, once made a
/// tree of a hundred thousand levels, and whoever walked it overflowed the stack.
#[test]
fn rows_of_operators_within_nests_are_bounded() {
    let options = ParseOptions::default();
    let max = options.depth_max as usize;
    let staircase = |levels: usize| {
        let steps: String = (1..=levels).map(|level| "+1".repeat(level) + ")").collect();
        format!("{}1{steps}", "(".repeat(levels))
    };
    for (open, close) in [("", ""), ("a[", "]"), ("a offset ", ""), ("a[1m:", "]"), ("a[1m:1m] offset ", "")] {
        // Operators and parentheses of these levels, and what is around them.
        let fits = (1..).take_while(|levels| levels * (levels + 3) / 2 + 2 <= max).last().unwrap();
        let expr = parse(&format!("{open}{}{close}", staircase(fits)), &options).unwrap();
        assert_eq!(print(&parsed(&print(&expr))), print(&expr));
        for levels in [fits + 1, max - 2] {
            let error = parse(&format!("{open}{}{close}", staircase(levels)), &options).expect_err(open).to_string();
            assert!(error.contains("nested too deeply"), "{open}: {error}");
        }
    }
    // A tree's duration stands below it.
    let sums = "1+".repeat(max / 2) + "1";
    let nested = |depth: usize| format!("{}a[{sums}]{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(max / 2 - 3), &options).is_ok());
    assert!(parse(&nested(max / 2 + 1), &options).unwrap_err().to_string().contains("nested too deeply"));
}

#[test]
fn length_parts_and_regular_expressions_are_bounded() {
    let options = ParseOptions { nodes_max: 4, ..ParseOptions::default() };
    assert!(parse("sum(a + b)", &options).is_ok());
    assert!(parse("sum(a + b + c)", &options).unwrap_err().to_string().contains("at most 4 parts"));
    assert!(parse("a[1m + 1m + 1m]", &options).is_ok());
    assert!(parse("a[1m + 1m + 1m + 1m + 1m]", &options).unwrap_err().to_string().contains("at most 4 parts"));
    let options = ParseOptions { text_bytes_max: 10, regexes_max: 1, ..ParseOptions::default() };
    assert!(parse("a + b + c + d", &options).is_err());
    let options = ParseOptions { regexes_max: 1, ..options };
    let options = ParseOptions { text_bytes_max: 100, ..options };
    assert!(parse("{a=~'b.*c'}", &options).is_ok());
    assert!(parse("{a=~'b.*c', d=~'b.*c'}", &options).unwrap_err().to_string().contains("at most 1"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn printing_and_parsing_are_inverse(seed in any::<u64>()) {
        let expr = random::expression(seed);
        let printed = print(&expr);
        let parsed = parse(&printed, &ParseOptions::default())
            .map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?;
        prop_assert_eq!(&print(&parsed), &printed);
        // NaN differs from itself: compared as text.
        let plain = format!("{:?}", random::without_spans(parsed));
        prop_assert_eq!(plain, format!("{:?}", random::without_spans(expr)));
        let again = parse(&pretty(&parse(&printed, &ParseOptions::default()).unwrap()), &ParseOptions::default()).unwrap();
        prop_assert_eq!(print(&again), printed);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = parse(&text, &ParseOptions::default());
    }

    #[test]
    fn no_words_in_a_row_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..24), glue in any::<bool>()) {
        let text = words.join(if glue { "" } else { " " });
        if let Ok(expr) = parse(&text, &ParseOptions::default()) {
            let printed = print(&expr);
            let again = parse(&printed, &ParseOptions::default())
                .map_err(|e| TestCaseError::fail(format!("{text} printed as {printed}: {e}")))?;
            prop_assert_eq!(print(&again), printed);
        }
    }
}

const WORDS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "=~",
    "!~",
    "!=",
    "==",
    "<",
    "</",
    ">/",
    "@",
    "+",
    "-",
    "*",
    "/",
    "^",
    "and",
    "or",
    "unless",
    "atan2",
    "sum",
    "topk",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "fill",
    "fill_left",
    "bool",
    "offset",
    "anchored",
    "smoothed",
    "start",
    "end",
    "step",
    "range",
    "max_of",
    "()",
    "rate",
    "time()",
    "info",
    "a",
    "a:b",
    "ü",
    "1",
    "5m",
    "0x1f",
    "1e",
    "nan",
    "\"s\"",
    "'",
    "`r`",
    "\\",
    "#",
    "\n",
    "a[5m]",
    "{a=\"b\"}",
    "0",
];
