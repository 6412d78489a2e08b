"""Presidio with its patterns and no language model, in a Python of its own.

Reads {"language", "texts", "entities"} a line; answers {"cpu_s", "found"}: seconds of this process
for all the texts, and the kinds of entity in each.
"""

import json
import sys
import time

import spacy
import tldextract
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine

LANGUAGES = ("en", "zh")


class Blank(SpacyNlpEngine):
    """Words are cut apart and nothing else: to name people is a model's work."""

    def __init__(self) -> None:
        super().__init__(
            models=[{"lang_code": name, "model_name": f"blank {name}"} for name in LANGUAGES]
        )
        self.nlp = {name: spacy.blank(name) for name in LANGUAGES}

    def load(self) -> None:
        """Nothing is downloaded."""


def main() -> None:
    # Its list of top-level domains: the one that came with it, not one from the network.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
    registry = RecognizerRegistry(supported_languages=list(LANGUAGES))
    registry.load_predefined_recognizers(languages=list(LANGUAGES))
    analyzer = AnalyzerEngine(
        registry=registry, nlp_engine=Blank(), supported_languages=list(LANGUAGES)
    )
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.process_time()
        found = [
            analyzer.analyze(
                text=text, language=asked["language"], entities=asked["entities"] or None
            )
            for text in asked["texts"]
        ]
        cpu_s = time.process_time() - began
        kinds = [[result.entity_type for result in results] for results in found]
        print(json.dumps({"cpu_s": cpu_s, "found": kinds}), flush=True)


if __name__ == "__main__":
    main()
