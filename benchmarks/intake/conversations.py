"""Write what customers, agents and tools of a shop say, seeded, with words enough to pack about as real talk does."""

import json
import random
from typing import Any

from imitrace.canonical import canonical_json

Record = dict[str, Any]  # a JSON object

_TEXTS = {
    "opener": (
        "Honestly,|As far as I can tell,|Since last week|When I came home,|To be clear,|According to the mail,"
        "|After the call|In the meantime|By the way,|For the second time|Just now|On the other hand,"
        "|If I remember rightly,|Even so,|Earlier|Before the holidays|From what I read,|At first|Later that day"
        "|Despite the promise,|Without any notice|Luckily|Still,"
    ),
    "subject": (
        "the parcel|my neighbour|the courier|your colleague|the invoice|our warehouse|the second box|the charger"
        "|this lamp|the refund|the label|my daughter|the depot|your shop|the replacement|the confirmation"
        "|the gift card|the driver|the bank|the tracking page|the left one|the whole order|the return form"
        "|the warranty|somebody|the manual|the cable"
    ),
    "verb": (
        "was left at|never reached|came back from|got lost near|is waiting for|does not match|was booked against"
        "|mentioned|was promised for|has been held up by|was charged twice by|fell out of|went to|depends on"
        "|should have been sent to|was signed for at|does not work with|has to be checked against|broke before"
        "|cannot be found in|shows|was swapped with"
    ),
    "object": (
        "the front door|a wrong address|the old account|the customs office|the garden shed|my office in {city}"
        "|the small print|the hotline|a locker in {city}|the list of {date}|case {case}|the kitchen table"
        "|invoice {invoice}|{name}|{item}|the reception|order {order}|the voucher of {amount}|our store in {city}"
        "|the pickup point|the card ending in {digits}|parcel {parcel}|the second floor|the night shift"
        "|the shipment of {date}|the spare part|my previous message"
    ),
    "ending": (
        "and nobody called back|so please look again|which is odd|although I paid {amount}"
        "|and I would like to keep {item}|while {name} was on leave|because the street is closed"
        "|and that took {digits} minutes|but the price was {amount}|as {name} wrote on {date}"
        "|so I need it by {date}|and the seal was broken|until the end of the month|which I can prove"
        "|and it is still under warranty|or send it to {city}|so a credit of {amount} is fine"
        "|and I kept the wrapping|if that is possible at all|without saying why|and the colour is wrong too"
        "|thanks to {name}|for the third time|before I cancel everything|and now the page shows {case}"
        "|just like order {order}|with a dent on one side"
    ),
    "item": (
        "blue kettle|desk lamp|hiking boots|oak shelf|phone case|rain jacket|coffee grinder|bike light"
        "|wool blanket|tea set|garden hose|camping stove|picture frame|travel adapter|running shoes|board game"
        "|bread knife|yoga mat|sound bar|globe"
    ),
    "name": (
        "Amira Haddad|Jonas Weber|Li Na|Olu Adeyemi|Marta Kowalska|Tomas Novak|Sofia Rossi|Ivan Petrov|Grace Kim"
        "|Noor Aziz|Hannah Berg|Pedro Alves|Yuki Mori|Fatou Diop|Emil Larsen|Chloe Martin|Raj Patel|Elena Popa"
        "|Sam Okoro|Ines Costa"
    ),
    "city": ("Leipzig|Gdansk|Porto|Uppsala|Lyon|Turin|Ghent|Brno|Cork|Graz|Malmo|Bilbao|Split|Tartu|Bergen|Delft"),
}
_PHRASES = {kind: text.split("|") for kind, text in _TEXTS.items()}
_STATES = ("delivered", "in transit", "pending", "returned", "cancelled", "held at customs", "ready for pickup")
_TOOLS = {
    "get_order": "Look up one order with its items, payments and the parcels it was sent in.",
    "get_customer": "Find a customer by name, mail address or number, with the orders of the last two years.",
    "track_parcel": "Ask the carrier where a parcel is, and for every scan on its way.",
    "issue_refund": "Give an amount back on the card that was charged; at most what was paid.",
    "change_address": "Send an order that has not left the warehouse to another address.",
    "open_case": "Write down what happened and hand it to a colleague, who answers within two days.",
}
ARGUMENTS = {"reference": "string", "reason": "string", "amount": "number", "note": "string"}


class Desk:
    """One support desk: everything that it says follows from its seed."""

    def __init__(self, seed: str) -> None:
        self.draw = random.Random(seed)

    def text(self, length: int) -> str:
        """Return sentences, about ``length`` characters together."""
        sentences, written = [], 0
        while written < length:
            sentences.append(self._sentence())
            written += len(sentences[-1]) + 1
        return " ".join(sentences)

    def _sentence(self) -> str:
        choose, chance = self.draw.choice, self.draw.random()
        kinds = ["opener"] if chance < 0.4 else []
        kinds += ["subject", "verb", "object"]
        kinds += ["ending"] if chance > 0.3 else []
        words = [choose(_PHRASES[kind]) for kind in kinds]
        sentence = " ".join(words)
        if "{" in sentence:
            sentence = sentence.format_map(self)
        return sentence[0].upper() + sentence[1:] + ("?" if chance > 0.93 else ".")

    def __getitem__(self, slot: str) -> str:
        """Return what fills a slot of a sentence or a record."""
        draw = self.draw
        match slot:
            case "name" | "city":
                return draw.choice(_PHRASES[slot])
            case "item":
                return f"the {draw.choice(_PHRASES['item'])}"
            case "amount":
                return f"{draw.randrange(199, 99999) / 100:.2f} EUR"
            case "date":
                return f"2026-{draw.randrange(1, 13):02d}-{draw.randrange(1, 29):02d}"
            case "digits":
                return str(draw.randrange(1000, 9999))
            case _:
                return f"{slot[0].upper()}{draw.getrandbits(28):08d}"

    def call(self) -> tuple[str, Record]:
        """Return a tool's name and arguments for it."""
        arguments = {
            "reference": self["order"],
            "reason": self.text(60),
            "amount": self.draw.randrange(199, 99999) / 100,
        }
        return self.draw.choice(tuple(_TOOLS)), arguments

    def record(self, length: int) -> str:
        """Return a tool's answer, the JSON text of an order, about ``length`` characters."""
        order: Record = {
            "order_id": self["order"],
            "customer": {
                "name": self["name"],
                "city": self["city"],
                "customer_id": f"{self.draw.getrandbits(64):016x}",
            },
            "placed": self["date"],
            "status": self.draw.choice(_STATES),
            "lines": [],
        }
        missing = length - len(json.dumps(order))
        while missing > 0:
            order["lines"].append(self._line())
            missing -= len(json.dumps(order["lines"][-1])) + 2
        return canonical_json(order)

    def _line(self) -> Record:
        draw = self.draw
        return {
            "sku": f"{draw.getrandbits(40):010X}",
            "title": self["item"],
            "quantity": draw.randrange(1, 5),
            "price": draw.randrange(199, 99999) / 100,
            "parcel": self["parcel"],
            "note": self._sentence(),
        }


def tool_definitions() -> list[Record]:
    """Return the tools that every desk offers, 2 kB together."""
    properties = {name: {"type": kind} for name, kind in ARGUMENTS.items()}
    schema = {"type": "object", "properties": properties, "required": ["reference"]}
    return [{"name": name, "description": text, "parameters": schema} for name, text in _TOOLS.items()]
