"""Second step of the re-keying: records keyed by the first release of benchmark/code_digest.py get the digests of
the one here. Only a record whose digest the first algorithm gives for this same code is changed.

    git show fa15aca:benchmark/code_digest.py > old.py; python -m benchmark.experiments.rekey old.py results
"""

import importlib.util, json, sys
from pathlib import Path
from an8flower import files
from benchmark import code_digest as new
from benchmark.certificate import certify
from benchmark.metrics import metrics
from benchmark.store import key
from explainers.reference import spec_of

s = importlib.util.spec_from_file_location("old_cd", sys.argv[1])
old = importlib.util.module_from_spec(s)
sys.modules["old_cd"] = old
s.loader.exec_module(old)
old._HERE = new._HERE
n = 0
for path in sorted(Path(sys.argv[2]).rglob("fold*.json")):
    r = json.loads(path.read_text())
    i = r["identity"]
    build = certify if "certificate" in path.parts else spec_of(i["explainer"]).build
    assert i["code_sha256"] == old.code_digest(build), path
    i["code_sha256"] = new.code_digest(build)
    r["key"] = key(i)
    for name, d in r.get("metrics", {}).items():
        assert d == old.code_digest(metrics.get(name).compute)
        r["metrics"][name] = new.code_digest(metrics.get(name).compute)
    files.write_json(path, r)
    n += 1
print(n)
