//! A group that lost its quorum for good, begun again from one survivor.
