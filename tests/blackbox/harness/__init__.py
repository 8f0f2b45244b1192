"""What the black-box tests share: a server under test, and a client that can say anything on the wire.

Nothing of the product is imported here: the tests drive the built binary and know it only by its protocol and its files.
"""
