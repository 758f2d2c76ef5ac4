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
a{color:inherit;text-decoration-color:var(--soft);text-underline-offset:.15em}
:focus-visible{outline:2px solid var(--model);outline-offset:2px}
h2{font-size:1.3rem;letter-spacing:-.01em;margin:3rem 0 .8rem;
padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:2rem 0 .6rem}
small{font-size:.8rem;font-weight:400;color:var(--soft);letter-spacing:0}
p{margin:.5rem 0;max-width:42rem}
header p{font-size:1.1rem}
.scroll{overflow-x:auto;position:relative}
table{border-collapse:separate;border-spacing:0;width:100%;border-bottom:1px solid var(--line)}
table{font-variant-numeric:tabular-nums}
caption{caption-side:bottom;text-align:left;color:var(--soft);font-size:.85rem;padding-top:.6rem}
th,td{padding:.5rem .7rem;border-top:1px solid var(--line);text-align:right;white-space:nowrap}
thead th{border-top:0}
th:first-child{text-align:left;padding-left:0;white-space:normal;min-width:9rem}
thead th{font-size:.85rem;font-weight:600;color:var(--soft)}
tbody th{font-weight:600}
tbody th a{text-decoration:none}
tbody th a:hover{text-decoration:underline}
.scroll th:first-child{position:sticky;left:0;background:var(--page);z-index:1}
td strong{font-weight:750}
td strong span{font-weight:400}
caption span{position:sticky;left:0;display:block;width:fit-content;max-width:min(46rem,calc(100vw - 2.5rem))}
thead button{all:unset;cursor:pointer;font:inherit}
thead button:hover{color:var(--ink)}
thead button:focus-visible{outline:2px solid var(--model);outline-offset:2px}
[aria-sort] button{color:var(--ink)}
[aria-sort=ascending] button::after{content:"\\25B4" / "";margin-left:.3em}
[aria-sort=descending] button::after{content:"\\25BE" / "";margin-left:.3em}
.many td span{display:block;font-size:.8rem}
.many td,.many thead th{padding-inline:.5rem}
.many thead th{white-space:normal;vertical-align:bottom;line-height:1.3}
.many th:first-child{padding-left:0}
.many td{vertical-align:top}
h1 span,td span{white-space:nowrap}
td span{color:var(--soft)}
tbody th small{display:block}
tbody+tbody tr:first-child>*{border-top:2px solid var(--soft)}
.bar{display:block;height:3px;margin-top:.3rem;border-radius:2px;background:var(--baseline)}
.bar.model{background:var(--model)}
figure{margin:1.2rem 0 2rem}
figcaption{margin-bottom:.6rem;color:var(--soft);font-size:.92rem}
figcaption strong{color:var(--ink)}
.strips{max-width:60rem}
.strips div{display:grid;grid-template-columns:6.5rem 1fr;gap:.8rem;align-items:center;margin-bottom:3px}
.strips span{font-size:.82rem;line-height:1.25;color:var(--soft);text-align:right}
img{display:block;width:100%;height:auto;border-radius:3px}
.stay{position:sticky;top:0;z-index:2;background:var(--page);padding-block:.3rem}
.scale{display:flex;flex-wrap:wrap;align-items:center;gap:.5rem;font-size:.85rem;color:var(--soft)}
.scale img{width:8rem}
.turntable{margin:-1rem 0 2rem}
.turntable summary,nav summary{cursor:pointer;color:var(--soft);font-size:.92rem}
.turntable img{width:min(100%,40rem);margin-top:.5rem}
.turning summary{cursor:pointer;color:var(--soft);font-size:.92rem}
.turning p{font-size:.85rem;color:var(--soft)}
model-viewer{display:block;width:min(100%,26rem);height:auto;aspect-ratio:1;background:var(--wash);border-radius:3px}
model-viewer:not(:defined)+p{display:none}
.solids{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr));gap:0 2rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr));gap:1rem 2.5rem}
.charts figure{margin:.8rem 0}
svg{display:block;overflow:visible}
svg text{font-size:13px;fill:var(--ink);paint-order:stroke;stroke:var(--page);stroke-width:5px}
svg .tick{font-size:12px;fill:var(--soft)}
svg .figure,svg .baseline text{fill:var(--soft)}
svg .model .figure{fill:var(--ink)}
svg .axis{stroke:var(--line)}
svg .zero{stroke:var(--soft);stroke-dasharray:3 3}
svg g line{stroke-width:3}
svg .baseline line{stroke:var(--soft)}
svg .baseline circle{fill:var(--page);stroke:var(--soft);stroke-width:2}
.model line{stroke:var(--model)}
.model circle{fill:var(--model)}
dl{margin:1rem 0;padding:.6rem 1rem;border-left:3px solid var(--line)}
dl div{display:grid;grid-template-columns:6rem 1fr;gap:.2rem 1rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
nav ul{list-style:none;margin:.4rem 0;padding:0}
nav a{display:inline-block;padding-block:.15rem}
nav ul ul{margin:0 0 .4rem;padding-left:1rem;font-size:.9rem}
nav ul ul li{display:inline-block;margin-right:.9rem}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.skip{position:absolute;left:-100rem}
.skip:focus{left:1rem;top:.5rem;z-index:3;background:var(--page);padding:.3rem .6rem}
.up{position:fixed;right:.8rem;bottom:.8rem;z-index:3;padding:.3rem .8rem;border-radius:1rem;font-size:.85rem;
background:var(--wash);border:1px solid var(--line);text-decoration:none}
section,h3{scroll-margin-top:1rem}
#same h3{scroll-margin-top:7.5rem}
@media (min-width:70rem){.report{max-width:88rem;display:grid;grid-template-columns:13rem minmax(0,1fr);
column-gap:3rem;align-content:start}.report>*{grid-column:2}.report>nav{grid-column:1;grid-row:1/span 3;
position:sticky;top:1.5rem;align-self:start;max-height:calc(100vh - 3rem);overflow-y:auto;font-size:.92rem}
nav ul ul li{display:block}.up{display:none}.many th:first-child{min-width:12.5rem}}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--wash);
padding:.15em .35em;
border-radius:3px;overflow-wrap:anywhere}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--soft);font-size:.85rem}
@media (max-width:34rem){.strips div{grid-template-columns:1fr;gap:.15rem}.strips span{text-align:left}
body{padding-inline:1rem}th,td{padding:.45rem .4rem}thead th{font-size:.75rem;white-space:normal}
th:first-child{min-width:6rem;max-width:7.5rem;overflow-wrap:anywhere}td,tbody th{font-size:.9rem}
td span{display:block;font-size:.8rem}dl div{grid-template-columns:1fr}dd{margin-bottom:.4rem}
#same h3{scroll-margin-top:5rem}}
@media print{:root{--ink:#000;--soft:#444;--line:#bbb;--page:#fff;--wash:#f3f3f3;
--model:#2a7f78;--baseline:#999}
body{max-width:none;padding:0;font-size:10pt}figure,tr{break-inside:avoid}h2,h3{break-after:avoid}
nav,.up,.skip,summary{display:none}.stay{position:static}.scroll{overflow:visible}
.many,.many tbody,.many tr,.many th,.many caption{display:block}.many thead{display:none}.many th{border:0}
.many tr{padding-block:.4rem;border-bottom:1px solid var(--line)}.many .bar{max-width:12rem}
.many td{display:none}.many td[data-label]{display:inline-block;padding:.1rem .8rem .1rem 0;border:0}
.many td[data-label]::before{content:attr(data-label) ": ";color:var(--soft)}.many td span{display:inline}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
