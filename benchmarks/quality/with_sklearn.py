"""Guess actions by scikit-learn's TF-IDF and logistic regression; runs in an environment of its own.

Reads ``{"train": [[texts, label], ...], "held_out": [texts, ...]}``, where texts is an object of columns, each of which
gets weights of its own; prints the guesses and the seconds that it fitted, by the clock and of the CPU.
"""

import json
import sys
import time

from scipy.sparse import hstack  # type: ignore[import-untyped,import-not-found,unused-ignore]  # it stands elsewhere
from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-not-found]  # the same
from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found]  # the same

given = json.load(sys.stdin)
columns = list(given["train"][0][0])
began, cpu = time.perf_counter(), time.process_time()
words = {name: TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True) for name in columns}
words["calls"] = TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(1, 2))
train = hstack([words[name].fit_transform([texts[name] for texts, _ in given["train"]]) for name in columns]).tocsr()
model = LogisticRegression(C=10.0, max_iter=200).fit(train, [label for _, label in given["train"]])
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
held_out = hstack([words[name].transform([texts[name] for texts in given["held_out"]]) for name in columns]).tocsr()
print(json.dumps({"guesses": model.predict(held_out).tolist(), "fit_s": round(seconds, 2), "fit_cpu_s": round(cpu, 2)}))
