import unittest

from logtally.words import query_words, unquote, words


class WordsTest(unittest.TestCase):
    def test_lower_case_without_stop_words(self):
        self.assertEqual(words("The Quick brown fox, and a dog's tail x"), ["quick", "brown", "fox", "dog's", "tail"])

    def test_digits_are_words(self):
        self.assertEqual(words("model 3000 (rev2)"), ["model", "3000", "rev2"])

    def test_unquote(self):
        self.assertEqual(unquote("red+shoes%2c%20size%2042"), "red shoes, size 42")
        self.assertEqual(unquote("100%25 50% %zz"), "100% 50% %zz")
        self.assertEqual(unquote("%4"), "%4")
        self.assertEqual(unquote(""), "")

    def test_query_words(self):
        self.assertEqual(query_words("q=red+shoes&page=2&q=Blue%20hat"), ["red", "shoes", "blue", "hat"])
        self.assertEqual(query_words("page=2"), [])
        self.assertEqual(query_words(""), [])


if __name__ == "__main__":
    unittest.main()
