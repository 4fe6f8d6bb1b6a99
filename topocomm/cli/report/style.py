"""The style of a page, for light and dark screens and for paper."""

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1d2330;--soft:#5b6475;--line:#e2e5ea;--track:#eef0f4;
--v0:#9299a6;--v1:#1b6ca8;--v2:#00967d;--v3:#8d6a9f;--v4:#c98a1b;--bound:#c8374a;
--f4:#0d4f86;--f3:#2f7dbb;--f2:#7fb3da;--f1:#cbe1f2;--f0:#eef0f4;--s1:#fbdcc0;--s2:#f0a866;--s3:#c9601a;
--onlight:#1d2330;--ondark:#fff}
@media (prefers-color-scheme:dark){:root{--paper:#14171d;--ink:#e6e9ef;--soft:#9aa3b2;--line:#2b303a;--track:#232831;
--v0:#7d8594;--v1:#5aa9e6;--v2:#3cc7ad;--v3:#b795c9;--v4:#e6b04c;--bound:#f2707f;
--f4:#6db8f2;--f3:#3f8cc9;--f2:#2b5f8a;--f1:#213f58;--f0:#232831;--s1:#4d3523;--s2:#8a5426;--s3:#e08a45;
--onlight:#e6e9ef;--ondark:#0d1015}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1160px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:28px;line-height:1.2;margin:0 0 12px}
h2{font-size:20px;margin:40px 0 6px;padding-top:18px;border-top:1px solid var(--line)}
p{max-width:76ch;margin:6px 0 12px}
.lead{font-size:19px;line-height:1.45}
section>p{color:var(--soft)}
.grid{display:flex;flex-wrap:wrap;gap:18px 28px;align-items:flex-start}
figure{margin:0;max-width:100%}
figcaption{font-weight:600;font-size:14px;margin:0 0 4px}
svg{max-width:100%;height:auto;display:block;overflow:visible}
svg text{fill:var(--ink);font-size:13px}
svg text.small{font-size:11.5px;fill:var(--soft)}
svg text.limit{fill:var(--bound)}
svg .on{font-size:13px;font-weight:600;fill:var(--onlight)}
svg text.f4,svg text.f3,svg text.s3{fill:var(--ondark)}
.track{fill:var(--track)}
.grid .grid,polyline.grid{stroke:var(--line);stroke-width:1;fill:none}
.bound{stroke:var(--bound);stroke-width:1.5;fill:none}
.never{fill:var(--bound);opacity:.12}
.band{opacity:.18}
.curve{fill:none!important;stroke-width:2}
.curve.v0{stroke-dasharray:5 3}
"""
_STEPS = ("f4", "f3", "f2", "f1", "f0", "s1", "s2", "s3")
_COLOURS = "".join(
    f".v{n}{{fill:var(--v{n});background:var(--v{n})}}.curve.v{n}{{stroke:var(--v{n})}}" for n in range(5)
)
_CELLS = "".join(f".cell.{k}{{fill:var(--{k});background:var(--{k})}}" for k in _STEPS)
STYLE += _COLOURS + _CELLS
STYLE += """
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13.5px;color:var(--ink);max-width:none}
.legend>span{white-space:nowrap}
.key{display:inline-block;width:14px;height:14px;border-radius:3px;margin-right:6px;vertical-align:-2px}
.key.limit{background:var(--bound);height:3px;vertical-align:4px}
details{margin:10px 0}
summary{cursor:pointer;font-weight:600}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;margin:8px 0}
th,td{text-align:left;padding:3px 12px 3px 0;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
.facts td{white-space:normal;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600}
@media print{details{break-inside:avoid}main{max-width:none}}
"""
