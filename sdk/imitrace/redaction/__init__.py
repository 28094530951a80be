"""Replace what must not leave the process: rules, what finds their entities, and pseudonyms."""
