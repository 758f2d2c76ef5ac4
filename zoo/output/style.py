"""The style sheet of a report: readable on paper, on a phone, by day and by night."""

CSS = """
:root{--ink:#1c2024;--soft:#5b6470;--line:#d9dde3;--page:#fcfcfb;
--wash:#f1f3f5;--model:#2a7f78;--baseline:#a9b1bb}
@media (prefers-color-scheme:dark){:root{--ink:#e7e9ec;--soft:#9aa4b0;--line:#343a42;
--page:#15181c;--wash:#1e2329;
--model:#5cc0b4;--baseline:#5d6773}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2.5rem 1.25rem 4rem;max-width:58rem;background:var(--page);color:var(--ink);
font:1rem/1.6 ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
h1{font-size:clamp(1.6rem,5vw,2.3rem);line-height:1.15;letter-spacing:-.02em;margin:0 0 .6rem}
h2{font-size:1.3rem;letter-spacing:-.01em;margin:3rem 0 .8rem;
padding-top:1rem;border-top:1px solid var(--line)}
small{font-size:.8rem;font-weight:400;color:var(--soft);letter-spacing:0}
p{margin:.5rem 0;max-width:42rem}
header p{font-size:1.1rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{caption-side:bottom;text-align:left;color:var(--soft);font-size:.85rem;padding-top:.6rem}
th,td{padding:.5rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child{text-align:left;padding-left:0;white-space:normal;min-width:9rem}
thead th{font-size:.85rem;font-weight:600;color:var(--soft)}
tbody th{font-weight:600}
h1 span,td span{white-space:nowrap}
td span{color:var(--soft)}
tbody th small{display:block}
tr.rule>*{border-top:2px solid var(--soft)}
.bar{display:block;height:3px;margin-top:.3rem;border-radius:2px;background:var(--baseline)}
.bar.model{background:var(--model)}
figure{margin:1.2rem 0 2rem}
figcaption{margin-bottom:.6rem;color:var(--soft);font-size:.92rem}
figcaption strong{color:var(--ink)}
.strips div{display:grid;grid-template-columns:6.5rem 1fr;gap:.8rem;align-items:center;margin-bottom:3px}
.strips span{font-size:.82rem;line-height:1.25;color:var(--soft);text-align:right}
img{display:block;width:100%;height:auto;border-radius:3px}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--wash);
padding:.15em .35em;
border-radius:3px;overflow-wrap:anywhere}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--soft);font-size:.85rem}
@media (max-width:34rem){.strips div{grid-template-columns:1fr;gap:.15rem}.strips span{text-align:left}
body{padding-inline:1rem}th,td{padding:.45rem .25rem;white-space:normal}th:first-child{min-width:5rem}
thead th{font-size:.75rem}td,tbody th{font-size:.9rem}td span{display:block;font-size:.8rem}}
@media print{:root{--ink:#000;--soft:#444;--line:#bbb;--page:#fff;--wash:#f3f3f3;
--model:#2a7f78;--baseline:#999}
body{max-width:none;padding:0;font-size:10pt}figure,tr{break-inside:avoid}h2{break-after:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
