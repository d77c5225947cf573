// report.cpp: who waits where, in words.
#include <stdio.h>

#include <utility>

#include "state.h"

namespace gpunet {

namespace {

std::string index_text(const uint3& index) {
    char text[64];
    snprintf(text, sizeof text, "(%u,%u,%u)", index.x, index.y, index.z);
    return text;
}

// "0-31, 40": the numbers as ranges, at most eight of them.
std::string ranges(const std::vector<unsigned>& numbers) {
    std::string text;
    unsigned shown = 0;
    for (size_t i = 0; i < numbers.size();) {
        size_t end = i + 1;
        while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
        if (++shown > 8) return text + ", ...";
        text += (i ? ", " : "") + std::to_string(numbers[i]);
        if (end - i > 1) text += "-" + std::to_string(numbers[end - 1]);
        i = end;
    }
    return text;
}

std::string doing(const Thread& thread) {
    if (thread.returned) return "returned";
    if (!thread.wait.name) return thread.started ? "running" : "not started";
    std::string verb = thread.wait.name == std::string("SPIN_PAUSE") ? "spinning at " : "waiting at ";
    return verb + thread.wait.name + " (" + thread.wait.file + ":" + std::to_string(thread.wait.line) + ")";
}

// Threads, or blocks, that do the same, in the order of the first of each group.
class Groups {
  public:
    void add(const std::string& what, unsigned number) {
        for (auto& [name, numbers] : groups_)
            if (name == what) return numbers.push_back(number);
        groups_.push_back({what, {number}});
    }

    std::string text(const char* member, const char* between, const char* separator) const {
        std::string text;
        for (const auto& [what, numbers] : groups_)
            text += (text.empty() ? "" : separator) + std::string(member) + (numbers.size() > 1 ? "s " : " ") +
                    ranges(numbers) + between + what;
        return text;
    }

  private:
    std::vector<std::pair<std::string, std::vector<unsigned>>> groups_;
};

std::string describe(const Block& block) {
    Groups groups;
    for (const Thread& thread : block.threads) groups.add(doing(thread), thread.number);
    return groups.text("thread", " ", "; ");
}

}  // namespace

std::string place(unsigned thread, unsigned block) {
    const auto index = [](unsigned number, const uint3& sizes) {
        return index_text({number % sizes.x, number / sizes.x % sizes.y, number / sizes.x / sizes.y});
    };
    return "thread " + index(thread, blockDim) + " of block " + index(block, gridDim);
}

std::string place(const Thread& thread) { return place(thread.number, thread.block->number); }

std::string who_waits_where() {
    if (!state.launch->cooperative) return "block " + index_text(state.block->index) + ": " + describe(*state.block);
    Groups groups;
    for (const Block* block : state.blocks) groups.add(describe(*block), block->number);
    return groups.text("block", ": ", " | ");
}

}  // namespace gpunet
