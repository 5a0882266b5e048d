import unittest

from logtally import Tally, distinct, parse_log, report
from logtally.render import bar, table
from logtally.tally import share

LOG = """\
2024-03-05T10:22:01 client=b2 GET /shop/1?q=red+shoes 200 100 30.0ms "x"
2024-03-05T10:22:02 client=a1 GET /shop/2?q=the+red+hat 200 50 10.0ms "x"
2024-03-05T10:22:03 client=b2 POST /cart 503 - 5.5ms "x"
2024-03-05T10:22:04 client=c3 GET /shop/3 404 20 20.0ms "x"
starting worker 3
"""

REPORT = """\
4 requests, 170 bytes, 1 lines skipped, 25.00 % failed

200 ##########.......... 2
404 #####............... 1
503 #####............... 1

word   times
red    2
hat    1
shoes  1

endpoint       requests  fastest  median  slowest
GET /shop/{n}  3         10.0     20.0    30.0
POST /cart     1         5.5      5.5     5.5

3 clients
     1  b2
     2  a1
     3  c3
"""


class TallyTest(unittest.TestCase):
    def tally(self):
        tally = Tally()
        tally.add_all(parse_log(LOG)[0])
        return tally

    def test_distinct_keeps_the_order_of_first_appearance(self):
        self.assertEqual(distinct(["b", "a", "b", "c", "a"]), ["b", "a", "c"])
        self.assertEqual(distinct([]), [])

    def test_counts(self):
        tally = self.tally()
        self.assertEqual((tally.requests, tally.bytes), (4, 170))
        self.assertEqual(tally.by_status, {200: 2, 503: 1, 404: 1})
        self.assertEqual(tally.clients, ["b2", "a1", "c3"])

    def test_adding_twice(self):
        tally = self.tally()
        tally.add_all(parse_log(LOG.replace("client=a1", "client=d4"))[0])
        self.assertEqual(tally.requests, 8)
        self.assertEqual(tally.clients, ["b2", "a1", "c3", "d4"])

    def test_top_words(self):
        self.assertEqual(self.tally().top_words(2), [("red", 2), ("hat", 1)])

    def test_failures(self):
        self.assertEqual(self.tally().failures(), 25.0)
        self.assertEqual(Tally().failures(), 0.0)
        self.assertEqual(share(0, 0), 0.0)

    def test_latency(self):
        self.assertEqual(
            self.tally().latency(), [("GET /shop/{n}", 3, 10.0, 20.0, 30.0), ("POST /cart", 1, 5.5, 5.5, 5.5)]
        )

    def test_bar_and_table(self):
        self.assertEqual(bar(50, 10), "#####.....")
        self.assertEqual(table([("a", 1), ("bcd", 22)], ["k", "n"]), "k    n\na    1\nbcd  22\n")

    def test_report(self):
        self.assertEqual(report(LOG), REPORT)

    def test_report_of_nothing(self):
        self.assertIn("0 requests", report(""))


if __name__ == "__main__":
    unittest.main()
